"""The command line."""

CONFIG_FILE = "longshore.toml"
