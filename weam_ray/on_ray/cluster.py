"""Start Ray on this machine, or join the cluster that ``RAY_ADDRESS`` names."""

from __future__ import annotations

import gc
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from weam_ray.collecting import uncollected
from weam_ray.errors import ResourceError

_QUIET = {
    # Results are read from the store; Tune's own CSV, JSON and TensorBoard files are not.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_WARN_SLOW_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "3600",
    # Left alone, Tune writes its state after every trial and warns that it does so too often.
    "TUNE_GLOBAL_CHECKPOINT_S": "30",
    # Ctrl-C is the sweep's: Tune's own handler ends its loop, and the sweep would go on after it.
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # A thread that still works on corpora when Ray was shut down must not start it anew.
    "RAY_ENABLE_AUTO_CONNECT": "0",
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
        ResourceError: the cluster that ``RAY_ADDRESS`` names does not answer, or this machine is
            too busy to start one.
    """
    address = cluster_address()
    _set_environment(alone=address is None)
    # Ray reads some of it when it is imported.
    import ray

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # third-party deprecations are not the user's to mend
        _connect(address, cpus)
        ray.data.DataContext.get_current().enable_progress_bars = False
    # Plans and timings of every pipeline; what matters of them is in the sweep's own lines.
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # Every failure of a trial is said by the sweep, with the path of its log.
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    try:
        yield dict(ray.cluster_resources())
    finally:
        # What still runs now (corpora, after Ctrl-C) is cut off, and need not say so.
        logging.getLogger("ray.data").setLevel(logging.CRITICAL)
        # Cycles that Tune leaves hold actors. If another thread's collector came upon one while
        # Ray goes down, Ray would end the process.
        gc.collect()
        with uncollected():
            ray.shutdown()


def cluster_address() -> str | None:
    """The cluster that ``RAY_ADDRESS`` names; None is this machine, and so is an empty name."""
    return os.environ.get("RAY_ADDRESS", "").strip() or None


def _set_environment(*, alone: bool) -> None:
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if alone:
        # Ray resolves 127.0.0.1 to the machine's own address unless this says one machine is all
        # there is.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        # Nothing but loopback can reach it; unset, Ray writes a token file into the home folder.
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")


def _handed_on() -> dict[str, str]:
    """What workers of another machine are told of this one's environment: to stay offline.

    Those of a Ray that this process starts inherit it.
    """
    names = ("HF_HUB_OFFLINE",)
    return {name: os.environ[name] for name in names if name in os.environ}


def _connect(address: str | None, cpus: int | None) -> None:
    """Join the cluster at ``address``, or start a Ray of this process alone."""
    import ray

    try:
        if address is None:
            ray.init(
                # Without this word one that somebody else started here would be joined.
                address="local",
                # Those this process may use, which under Slurm are some of the machine's.
                num_cpus=cpus or len(os.sched_getaffinity(0)),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                object_store_memory=512 * 2**20,
            )
        else:
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env={"env_vars": told} if (told := _handed_on()) else None,
            )
    except ConnectionError as error:
        raise ResourceError(
            f"no Ray cluster answers there ({error})",
            place=f"RAY_ADDRESS={address}",
            cure="Start it with ray up, or unset RAY_ADDRESS to run on this machine.",
        ) from None
    except Exception as error:
        # Ray has no type of its own for this, and its 30 seconds can't be changed.
        if "timed out during startup" not in str(error):
            raise
        raise ResourceError(
            "Ray's processes did not come up within 30 seconds",
            cure="This machine is very busy or short of memory: run the same command again.",
        ) from None
