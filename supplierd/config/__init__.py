"""The daemon's configuration: a TOML file and what options and environment put in its place.

kinds      what a value may be
table      how tables are declared and read
model      the tables: each key with its kind, default and help
load       files to Config, checks between keys, and what the daemon's parts are given
reference  the list of all keys, for people and as JSON Schema
"""

from supplierd.config.kinds import Address, Problem
from supplierd.config.load import ConfigError, differences, grants, load, resolve, supplier_settings
from supplierd.config.model import Config, InboxEndpoint
from supplierd.config.reference import config_reference, entries, json_schema

__all__ = [
    "Address",
    "Config",
    "ConfigError",
    "InboxEndpoint",
    "Problem",
    "config_reference",
    "differences",
    "entries",
    "grants",
    "json_schema",
    "load",
    "resolve",
    "supplier_settings",
]
