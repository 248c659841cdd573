"""What changes before the eyes of people: the state of tasks, sent to the pages that show it."""
