"""Start Ray on this machine, or join the cluster that ``RAY_ADDRESS`` names."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from weam_ray.errors import ResourceError

_QUIET = {
    # Results are read from the store; Tune's own CSV, JSON and TensorBoard files are not.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "3600",
    # Left alone, Tune writes its state after every trial and warns that it does so too often.
    "TUNE_GLOBAL_CHECKPOINT_S": "30",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}


@contextmanager
def ray_runtime(*, cpus: int | None = None) -> Iterator[dict[str, float]]:
    """Ray for the length of the block; yields the cluster's resources, e.g. ``{"CPU": 2.0}``.

    Without ``RAY_ADDRESS`` a Ray of this process alone is started on the loopback address, with
    neither dashboard nor client server, and stopped at the end. With it, the cluster is joined,
    and its own authentication settings hold.

    Raises:
        ResourceError: the cluster that ``RAY_ADDRESS`` names does not answer.
    """
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        # Ray resolves 127.0.0.1 to the machine's own address unless this says one machine is all
        # there is. Read at import, so it must stand before the line below.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Nothing but loopback can reach it; unset, Ray writes a token file into the home folder.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third-party deprecations are not the user's to mend
        try:
            if address is None:
                ray.init(
                    num_cpus=cpus,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    object_store_memory=512 * 2**20,
                )
            else:
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
        except ConnectionError as error:
            raise ResourceError(
                f"no Ray cluster answers there ({error})",
                place=f"RAY_ADDRESS={address}",
                cure="Start it with ray up, or unset RAY_ADDRESS to run on this machine.",
            ) from None
        ray.data.DataContext.get_current().enable_progress_bars = False
    # Plans and timings of every pipeline; what matters of them is in the sweep's own lines.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield dict(ray.cluster_resources())
    finally:
        ray.shutdown()
