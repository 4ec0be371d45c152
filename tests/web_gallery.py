"""A gallery of generated people with a small random network, for tests of page and API; and the server as a process."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import torch
from PIL import Image

from partalign.datasets.generated import World
from partalign.evaluation.calibration import Calibration
from partalign.model.network import NetworkSettings, build_network
from partalign.search import PictureSearch
from partalign.weights.checkpoint import save_checkpoint

MORNING = 1_777_880_000.0
CALIBRATION = Calibration(12.0, -4.0, 10, 20, 0.1, 0.01)


def write_model(path):
    """A light network of random weights, with a calibration."""
    torch.manual_seed(0)
    settings = NetworkSettings(appearance="light", parts="light", dimension=64, height=64, width=32)
    description = {"kind": "network", "network": settings.model_dump(mode="json"), "calibration": CALIBRATION.as_dict()}
    save_checkpoint(path, build_network(settings).state_dict(), description)
    return path


def write_people(folder):
    """Crops of 12 generated persons before 4 cameras, with times of day; the persons of half of them are not known."""
    split = World(persons=12, cameras=4, crops_per_person=6, height=96, width=48).write(folder, train_fraction=0.1)
    crops = []
    for number, crop in enumerate(split.train + split.query + split.gallery):
        shot = float(re.search(r"_(\d{6})_", crop.path.name).group(1))
        known = crop.person if number % 2 else None
        crops.append(replace(crop, person=known, time=MORNING + shot, tracklet=f"{crop.person}-{crop.camera}"))
    return crops


def make_gallery(folder, model, crops):
    search = PictureSearch.open(folder, model, create=True)
    search.add(crops, tags=("morning",))
    return search


def jpeg(path, width=48, height=96, colour=(90, 120, 160)):
    Image.new("RGB", (width, height), colour).save(path)
    return path


@contextmanager
def serving(*words):
    """Run `partalign serve` on a free port; yields the page's address and the process."""
    command = [sys.executable, "-m", "partalign", "serve", *map(str, words), "--port", "0"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "300"}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as server:
        try:
            line = server.stderr.readline()
            assert line.startswith("http"), line + server.stderr.read()
            yield line.split()[0], server
        finally:
            server.terminate()
