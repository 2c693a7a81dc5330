"""What the site adds to Sphinx: one module an extension, each listed in ``_config.yml``."""
