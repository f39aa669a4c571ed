"""Searches a file of embeddings for the images that are most similar to one image."""

import tempfile
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from components import artifact_files
from components.artifact_files import Content
from components.embeddings import groups, neighbours, reading
from components.embeddings.description import Description, Model
from components.embeddings.groups import Group, Image, Similar
from components.image_example_gen.config import IngestSettings
from pipeline.local.curation import Outputs
from pipeline.local.paths import absolute
from pipeline.local.workdir import Workdir
from trainer.errors import DataError, SettingsError
