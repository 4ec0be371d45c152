"""partalign picture parts, tsne, ranks, curves, bars."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

Flag = Annotated[bool, Parameter(negative="")]

picture = App(name="picture", help="Draw a figure of the paper from your model and your pictures, as a PNG file.")


@picture.command
def parts(
    *images: Path,
    out: Path,
    data: Path | None = None,
    dataset: str = "market1501",
    persons: PositiveInt = 4,
    each: PositiveInt = 3,
    fit: NonNegativeInt = 200,
    joints: Flag = False,
    pose: Path | None = None,
    against: Path | None = None,
    seed: NonNegativeInt = 0,
    dark: Flag = False,
    device: str = "cpu",
) -> None:
    """Draw appearance maps and part maps beside the crops: the same colour, the same descriptor (Figs. 4, 5, 7).

    Example: partalign picture parts --data ~/data --out parts.png

    Args:
        images: pictures, or folders of pictures; or, instead, --data; a model file, of a network of two streams, or a
            shipped model's name may come first
        out: the picture to write (.png)
        data: the folder of a data set, to draw from its query and gallery crops by lot
        dataset: market1501, dukemtmc, cuhk03, cuhk01, mars, or folder (your own crops)
        persons: how many persons are drawn by lot
        each: how many crops of each person
        fit: how many more crops the colours are fitted to
        joints: beside the learned parts, show those of joints alone, in place of the appearance
        pose: a pre-trained part stream (parts.safetensors) to take these joints from; by default the model's own
        against: a second model to show beside the first, such as the non-negative variant
        seed: of the lot
        dark: draw for a dark page
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.embedding import Embedder
    from partalign.pictures.figures import draw_maps
    from partalign.pictures.local_maps import choose_crops, read_local_maps
    from partalign.pictures.saving import check_target, save_picture
    from partalign.pictures.theme import DARK, LIGHT
    from partalign.weights.checkpoint import load_model
    from partalign.weights.shipped import leading_model

    check_target(out)
    model, images = leading_model(images)
    choice = choose_crops(images, dataset=dataset, data=data, persons=persons, each=each, others=fit, seed=seed)
    models = [Embedder(load_model(file), device=device) for file in (model, *([against] if against else []))]
    first, *second = [read_local_maps(embedder, choice.crops, pose) for embedder in models]
    other = second[0] if second else None
    theme = DARK if dark else LIGHT
    save_picture(draw_maps(first, len(choice.shown), joints=joints, against=other, theme=theme), out)
    print(out)


@picture.command
def tsne(
    *images: Path,
    out: Path,
    data: Path | None = None,
    dataset: str = "market1501",
    persons: PositiveInt = 8,
    each: PositiveInt = 6,
    points: PositiveInt = 1500,
    show: Annotated[list[str] | None, Parameter(negative="")] = None,
    pose: Path | None = None,
    seed: NonNegativeInt = 0,
    dark: Flag = False,
    device: str = "cpu",
) -> None:
    """Lay local descriptors out in the plane: appearance gathers by colour, parts by body part (Fig. 3).

    Example: partalign picture tsne --data ~/data --out tsne.png

    Args:
        images: pictures, or folders of pictures; or, instead, --data; a model file, of a network of two streams, or a
            shipped model's name may come first
        out: the picture to write (.png)
        data: the folder of a data set, to draw from its query and gallery crops by lot
        dataset: market1501, dukemtmc, cuhk03, cuhk01, mars, or folder (your own crops)
        persons: how many persons are drawn by lot
        each: how many crops of each person
        points: how many places of their maps are drawn by lot
        show: patches (of the pictures), parts or persons (points coloured by them); may be repeated, by default all
        pose: a pre-trained part stream (parts.safetensors) that says which place is which body part; by default the
            model's own
        seed: of the lot, and of t-SNE
        dark: draw for a dark page
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.embedding import Embedder
    from partalign.pictures.figures import ROWS, draw_local_descriptors
    from partalign.pictures.local_maps import choose_crops, read_local_maps
    from partalign.pictures.saving import check_target, save_picture
    from partalign.pictures.theme import DARK, LIGHT
    from partalign.weights.checkpoint import load_model
    from partalign.weights.shipped import leading_model

    check_target(out)
    model, images = leading_model(images)
    choice = choose_crops(images, dataset=dataset, data=data, persons=persons, each=each, seed=seed)
    maps = read_local_maps(Embedder(load_model(model), device=device), choice.crops, pose)
    theme = DARK if dark else LIGHT
    save_picture(draw_local_descriptors(maps, points=points, rows=show or ROWS, seed=seed, theme=theme), out)
    print(out)


@picture.command
def ranks(
    *images: Path,
    out: Path,
    gallery: Path | None = None,
    data: Path | None = None,
    dataset: str = "market1501",
    queries: PositiveInt = 5,
    top: PositiveInt = 10,
    seed: NonNegativeInt = 0,
    dark: Flag = False,
    device: str = "cpu",
) -> None:
    """Draw queries with their best matches: right ones framed green with a tick, wrong ones red with a cross.

    Example: partalign picture ranks --data ~/data --out ranks.png

    Args:
        images: pictures to search by, with --gallery; or, instead, --data; a model file, or a shipped model's name, may
            come first
        out: the picture to write (.png)
        gallery: the folder of pictures to search in
        data: the folder of a data set, of whose queries some are drawn by lot
        dataset: market1501, dukemtmc, cuhk03, cuhk01, mars, or folder (your own crops)
        queries: how many queries are drawn by lot
        top: how many matches of each
        seed: of the lot
        dark: draw for a dark page
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.embedding import Embedder
    from partalign.pictures.ranked_list import draw_ranked_list
    from partalign.pictures.saving import check_target, save_picture
    from partalign.pictures.search import choose_search
    from partalign.pictures.theme import DARK, LIGHT
    from partalign.weights.checkpoint import load_model
    from partalign.weights.shipped import leading_model

    check_target(out)
    model, images = leading_model(images)
    search = choose_search(images, gallery, dataset=dataset, data=data, queries=queries, seed=seed)
    rows = search.run(Embedder(load_model(model), device=device), top)
    save_picture(draw_ranked_list(rows, theme=DARK if dark else LIGHT), out)
    print(out)


@picture.command
def curves(
    *models: Path,
    out: Path,
    data: Path | None = None,
    dataset: str = "market1501",
    dark: Flag = False,
    device: str = "cpu",
) -> None:
    """Draw training curves of runs; with --data, the CMC curves of their models.

    Example: partalign picture curves runs/baseline runs/proposed --out curves.png

    Args:
        models: folders of runs, or the model files in them
        out: the picture to write (.png)
        data: the folder of a data set, to score the models on
        dataset: market1501, dukemtmc, cuhk03, cuhk01, mars, or folder (your own crops)
        dark: draw for a dark page
        device: cpu, cuda, cuda:1 ...
    """
    from partalign.datasets import load_dataset
    from partalign.embedding import Embedder, evaluate
    from partalign.pictures.curves import draw_cmc, draw_training, find_runs, read_log
    from partalign.pictures.saving import check_target, save_picture
    from partalign.pictures.theme import DARK, LIGHT
    from partalign.weights.checkpoint import load_model

    check_target(out)
    runs, theme = find_runs(models), DARK if dark else LIGHT
    if data is None:
        sheet = draw_training({name: read_log(run.log) for name, run in runs.items()}, theme=theme)
    else:
        split = load_dataset(dataset, data)
        scored = {name: evaluate(Embedder(load_model(run.model), device=device), split) for name, run in runs.items()}
        sheet = draw_cmc({name: scores.cmc for name, scores in scored.items()}, theme=theme)
    save_picture(sheet, out)
    print(out)


@picture.command
def bars(*scores: str, out: Path, dark: Flag = False) -> None:
    """Draw rank-1 and mAP of variants as bars; files of one name are its seeds, whose spread is drawn (Fig. 6).

    Example: partalign picture bars baseline=b0.json baseline=b1.json proposed=p0.json --out bars.png

    Args:
        scores: NAME=FILE, FILE as `partalign evaluate --json` writes it
        out: the picture to write (.png)
        dark: draw for a dark page
    """
    from partalign.pictures.saving import check_target, save_picture
    from partalign.pictures.theme import DARK, LIGHT
    from partalign.pictures.variants import draw_variants, read_variants

    check_target(out)
    save_picture(draw_variants(read_variants(scores), theme=DARK if dark else LIGHT), out)
    print(out)
