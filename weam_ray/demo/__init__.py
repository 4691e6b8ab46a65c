"""The embedded default: a small artificial multilingual world whose links and labels are known."""

from weam_ray.demo.world import WorldConfig, write_world

__all__ = ["WorldConfig", "write_world"]
