"""A string ends in the middle of an escape."""

COPYRIGHT = "\xA"
