"""A run that takes seconds."""

from pixelvae_tf import presets


def small_config(**train):
    """A run on digits that takes seconds."""
    config = presets.get("digits/gated_pixel_vae")
    config.model.pixels.filters, config.model.pixels.embedding_dim = 8, 2
    config.model.levels[0].filters, config.model.levels[0].dim = (8,), 4
    options = {"steps": 8, "batch_size": 16, "steps_per_loop": 2, "log_every": 2, "evaluate_every": 4}
    for name, value in {**options, "checkpoint_every": 4, "average_decay": 0.9, **train}.items():
        assert hasattr(config.train, name)
        setattr(config.train, name, value)
    return config
