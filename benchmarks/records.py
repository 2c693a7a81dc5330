"""Records of how measured results were made, as JSON next to them, for `fmnist_lib.measured`."""

import json
from dataclasses import asdict

from fmnist_lib.measured import FOLDER


def write_record(name, command, config, machine):
    """Write the record of a result; its settings leave out the seed, which varies."""
    settings = {key: value for key, value in asdict(config).items() if key != "seed"}
    record = {"command": command, "config": settings, "machine": machine}
    text = json.dumps(record, indent=2) + "\n"
    (FOLDER / f"{name}.json").write_text(text, encoding="utf-8")
