"""Everything under one parent: what ``taskcontrol up`` starts, keeps running and ends."""
