"""Django finds the command ``taskcontrol`` here; its verbs are next door."""
