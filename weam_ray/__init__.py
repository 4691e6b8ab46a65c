"""weam_ray."""
