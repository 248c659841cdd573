"""Examines a site from the settings to the last task: what ``taskcontrol doctor`` prints."""
