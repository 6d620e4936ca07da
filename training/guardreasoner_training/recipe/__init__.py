"""Recipes: every setting of a training, in one TOML file."""

from guardreasoner_training.recipe.load import load_recipe, override, recipe_names, recipe_text
from guardreasoner_training.recipe.settings import (
    DataSettings,
    EnsembleMember,
    EvaluateSettings,
    ExportSettings,
    HSDPOSettings,
    LoraSettings,
    MineSettings,
    PaperFigures,
    Recipe,
    RSFTSettings,
    ScratchSettings,
    SynthesisSettings,
    TrainerSettings,
)

__all__ = [
    "DataSettings",
    "EnsembleMember",
    "EvaluateSettings",
    "ExportSettings",
    "HSDPOSettings",
    "LoraSettings",
    "MineSettings",
    "PaperFigures",
    "RSFTSettings",
    "Recipe",
    "ScratchSettings",
    "SynthesisSettings",
    "TrainerSettings",
    "load_recipe",
    "override",
    "recipe_names",
    "recipe_text",
]
