"""Commands that look at whole executions: to compare two, to write one to a file and to read it back."""
