"""The command line: click, a command a file, talking to a person. The work is the library's, `pipeline`."""
