"""Apps that a site may add: each is off until it stands in ``INSTALLED_APPS``."""
