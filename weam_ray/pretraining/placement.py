"""Where a module's weights are while it is trained: here alone, copied, or cut over the workers.

What is saved is always whole weights by their usual names, so a finished encoder and a best one
kept for later don't show where they were trained.
"""

from __future__ import annotations

import copy
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch
from torch import Tensor, nn

from weam_ray.errors import ResourceError

Weights = dict[str, Tensor]
Sharding = Literal["ddp", "fsdp"]


class Alone:
    """A module on one device.

    Attributes:
        module: whose parameters are trained.
        called: what is called with a batch; its backward pass leaves gradients averaged over
            workers.
    """

    kind = "one worker"

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        self.module = module.to(device).train()
        self.called: nn.Module = self.module

    def sums(self, last: bool) -> AbstractContextManager[Any]:
        """Around a micro-batch: gradients are exchanged between workers after the last alone."""
        return nullcontext()

    def weights(self) -> Weights:
        """Copies on the CPU, for the leading worker; every worker has to call this."""
        return {name: t.to("cpu", copy=True) for name, t in self.module.state_dict().items()}

    def state(self, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """What a checkpoint keeps; every worker has to call this."""
        return {
            "kind": self.kind,
            "model": self.module.state_dict(),
            "optimiser": optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any], optimiser: torch.optim.Optimizer) -> None:
        """Goes on from :meth:`state`.

        Raises:
            ResourceError: the weights were cut up then and aren't now, or the other way round.
        """
        sharded = Sharded.kind in (state.get("kind"), self.kind)
        if sharded and state.get("kind") != self.kind:
            raise ResourceError(
                f"this run was saved on {state.get('kind')} and is to go on on {self.kind}",
                cure="Let it end with the sharding and workers it began with.",
            )
        self._restore(state, optimiser)

    def _restore(self, state: dict[str, Any], optimiser: torch.optim.Optimizer) -> None:
        self.module.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])

    def hand_back(self, weights: Weights | None, *, leads: bool) -> None:
        """Leaves the caller's module with these weights, or the trained ones."""
        if weights is not None:
            self.module.load_state_dict(weights)


class Replicated(Alone):
    """DDP: every worker has all weights.

    A module whose steps don't all read all of its parameters says so by `leaves_some_unused`.
    """

    kind = "copies"

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        super().__init__(module, device)
        # Looking for them takes a walk through the graph at every step, so it is done where needed.
        unused = bool(getattr(module, "leaves_some_unused", False))
        self._replica = nn.parallel.DistributedDataParallel(
            self.module, find_unused_parameters=unused
        )
        self.called = self._replica

    def sums(self, last: bool) -> AbstractContextManager[Any]:
        """See :meth:`Alone.sums`."""
        return nullcontext() if last else self._replica.no_sync()


class Sharded(Alone):
    """FSDP: weights, gradients and optimiser are cut over the workers, layer by layer.

    The caller's module stays whole and untouched on the CPU: a copy is cut up. Torch's packages for
    this are loaded here alone: they take a while.
    """

    kind = "shards"

    def __init__(self, module: nn.Module, device: torch.device) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import FSDPModule, fully_shard

        self._whole = module
        cut = copy.deepcopy(module)
        mesh = init_device_mesh(device.type, (torch.distributed.get_world_size(),))
        for layer in _layers(cut):
            fully_shard(layer, mesh=mesh)
        fully_shard(cut, mesh=mesh)
        assert isinstance(cut, FSDPModule)
        self._cut = cut
        super().__init__(cut, device)

    def sums(self, last: bool) -> AbstractContextManager[Any]:
        """See :meth:`Alone.sums`."""
        self._cut.set_requires_gradient_sync(last)
        return nullcontext()

    def weights(self) -> Weights:
        """See :meth:`Alone.weights`; only the leading worker gets any."""
        from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return get_model_state_dict(self.module, options=whole)  # type: ignore[return-value]

    def state(self, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """See :meth:`Alone.state`."""
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            get_optimizer_state_dict,
        )

        whole = StateDictOptions(full_state_dict=True, cpu_offload=True)
        return {
            "kind": self.kind,
            "model": self.weights(),
            "optimiser": get_optimizer_state_dict(self.module, optimiser, options=whole),
        }

    def _restore(self, state: dict[str, Any], optimiser: torch.optim.Optimizer) -> None:
        from torch.distributed.checkpoint.state_dict import (
            StateDictOptions,
            set_model_state_dict,
            set_optimizer_state_dict,
        )

        whole = StateDictOptions(full_state_dict=True)
        set_model_state_dict(self.module, state["model"], options=whole)
        set_optimizer_state_dict(self.module, optimiser, state["optimiser"], options=whole)

    def hand_back(self, weights: Weights | None, *, leads: bool) -> None:
        """See :meth:`Alone.hand_back`; on the leading worker, whom all have to help."""
        trained = self.weights()
        if leads:
            self._whole.load_state_dict(trained if weights is None else weights)


def _layers(module: nn.Module) -> list[nn.Module]:
    """The transformer layers: the longest list of modules."""
    lists = [found for found in module.modules() if isinstance(found, nn.ModuleList)]
    return list(max(lists, key=len, default=[]))


def place(
    module: nn.Module, device: torch.device, *, distributed: bool, sharding: Sharding
) -> Alone:
    """The module as it is trained here; `distributed` says that `torch.distributed` is set up."""
    if not distributed:
        return Alone(module, device)
    return Sharded(module, device) if sharding == "fsdp" else Replicated(module, device)
