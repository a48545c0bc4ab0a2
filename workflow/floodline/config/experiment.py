"""An experiment: the whole tree."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from floodline.config.base import Model, NonNegative, key
from floodline.config.flooding import Inference
from floodline.config.masks import Mask
from floodline.config.quality import Quality
from floodline.config.results import Evaluation, Export, Publishing
from floodline.config.segmentation import Agglomeration, Assembly
from floodline.config.study import Study
from floodline.config.training import Network, Sites, Training
from floodline.config.volumes import Image, Labels, Storage
from floodline.geometry import Triple


class Config(Model):
    """An experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")] = key("Results go to results/<name>/.")
    seed: NonNegative = key("Every random choice comes from this number and a name.", 1)
    data: str = key("Folder or URL that {data} stands for in every path of the configuration.", "data")
    image: Image = key("The EM volume.")
    labels: Labels | None = key("Proofread labels; null: none, so no training and no scores.", None)
    storage: Storage = key("How layers are stored.", Storage)
    quality: Quality = key("Quality control of the image.", Quality)
    masks: tuple[Mask, ...] = key("Places that training sites, seeds or floods keep away from.", ())
    network: Network = key("The network.", Network)
    sites: Sites = key("Training sites.", Sites)
    training: Training | None = key("Training; null: the weights of network.weights are used as they are.", None)
    inference: Inference = key("Flooding.", Inference)
    assembly: Assembly = key("One label space.", Assembly)
    agglomeration: Agglomeration = key("Supervoxels to neurons.", Agglomeration)
    evaluation: Evaluation = key("Scores.", Evaluation)
    publishing: Publishing = key("Meshes, skeletons, the connectome.", Publishing)
    exports: tuple[Export, ...] = key("The neurons in other formats.", ())
    study: Study | None = key("A matrix of trainings, for `snakemake study`; null: none.", None)

    @model_validator(mode="after")
    def _valid(self) -> Self:
        if self.training is None and self.network.weights is None:
            raise ValueError("either training or network.weights must be given, else there is no network to flood with")
        if self.training is not None and self.labels is None:
            raise ValueError("training needs labels")
        for views in self.training.first_views if self.training else ():
            if any(first > size for first, size in zip(views.fov_xyz, self.network.fov_xyz, strict=True)) or any(
                first > delta for first, delta in zip(views.deltas_xyz, self.network.deltas_xyz, strict=True)
            ):
                raise ValueError(
                    "training.first_views must not be larger than network.fov_xyz, nor move further than "
                    "network.deltas_xyz"
                )
        names = [export.name for export in self.exports]
        if len(set(names)) != len(names):
            raise ValueError("exports must have different names")
        if self.study is not None and self.training is None:
            raise ValueError("a study needs training")
        overlap = self.inference.overlap_xyz or (0, 0, 0)
        if any(o >= s for o, s in zip(overlap, self.inference.subvolume_size_xyz, strict=True)):
            raise ValueError("inference.overlap_xyz must be smaller than inference.subvolume_size_xyz")
        if any(f > s for f, s in zip(self.network.fov_xyz, self.inference.subvolume_size_xyz, strict=True)):
            raise ValueError("inference.subvolume_size_xyz must hold at least one network.fov_xyz")
        again = self.agglomeration.resegmentation
        if again and any(r < fov // 2 for r, fov in zip(again.radius_xyz, self.network.fov_xyz, strict=True)):
            raise ValueError(
                "agglomeration.resegmentation.radius_xyz is less than half a network.fov_xyz: no field of view fits "
                "into the cube that is flooded"
            )
        return self

    @property
    def overlap_xyz(self) -> Triple:
        """Overlap of sub-volumes: as given, or such that the ranges of field-of-view centres just meet."""
        x, y, z = self.inference.overlap_xyz or (2 * (size // 2) for size in self.network.fov_xyz)
        return x, y, z

    @property
    def lom_radius_xyz(self) -> Triple:
        """Radius of the box in which a site's object fraction is taken."""
        x, y, z = self.sites.lom_radius_xyz or (
            fov // 2 + delta for fov, delta in zip(self.network.fov_xyz, self.network.deltas_xyz, strict=True)
        )
        return x, y, z
