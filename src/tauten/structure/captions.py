"""A file of captions to a file of clusters: what `tauten cluster` does."""

from pathlib import Path

from tauten.structure.cells import missing, some
from tauten.structure.clustering import caption_clusters
from tauten.structure.clusters import Clusters
from tauten.structure.embed import check_captions
from tauten.structure.tables import column_names, read_rows
from tauten.structure.tail import plot_tail


def read_captions(path: str | Path, column: str = "caption") -> list[str]:
    """Read one caption per row.

    Args:
        path: .jsonl, .json (list of objects or of texts), .csv, .tsv, .parquet, or .txt (one
            per line).
        column: name of the caption column; a .txt needs none.

    Returns:
        The captions in file order: the position is the sample's index.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: unreadable file, no such column (with those there are), blank or missing
            captions.
    """
    path = Path(path)
    rows = read_rows(path, text=[column], bare=column)
    if not rows:
        raise ValueError(f"{path}: there are no captions")
    columns = column_names(rows)
    if column not in columns:
        raise ValueError(f"{path}: no column {column!r}; columns: {some(columns, 20)}")
    captions = ["" if missing(row.get(column)) else row[column] for row in rows]
    try:
        check_captions(captions)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return captions


def cluster_file(
    captions_path: str | Path,
    k: int,
    output: str | Path,
    seed: int = 0,
    model: str = "minilm",
    column: str = "caption",
    progress: bool = True,
    overwrite: bool = False,
) -> Clusters:
    """Cluster the captions of a file and write the clusters and a plot of their sizes.

    Args:
        captions_path: file of captions, see `read_captions`.
        k: number of clusters, 2 <= k <= distinct captions.
        output: .parquet file to write, with the columns index, caption, cluster, count. The plot
            is written beside it under the same name with .png.
        seed: seed of k-means.
        model: sentence encoder, see `embed_captions`.
        column: name of the caption column.
        progress: show progress bars.
        overwrite: replace files that exist.

    Returns:
        The clusters.

    Raises:
        FileNotFoundError: there is no such file of captions.
        FileExistsError: the output or its plot exists and `overwrite` is False.
        ValueError: output without .parquet, k out of range, captions that cannot be used.
    """
    output = Path(output)
    if output.suffix != ".parquet":
        raise ValueError(f"output must end with .parquet, got {output}")
    plot = output.with_suffix(".png")
    existing = [str(path) for path in (output, plot) if path.exists()]
    if existing and not overwrite:
        raise FileExistsError(
            f"{' and '.join(existing)} exist{'s' if len(existing) == 1 else ''}: "
            "choose another output or overwrite it explicitly"
        )
    captions = read_captions(captions_path, column)
    clusters = caption_clusters(captions, k, seed, model=model, progress=progress)
    output.parent.mkdir(parents=True, exist_ok=True)
    title = f"Caption clusters of {Path(captions_path).name} (k = {k})"
    clusters.save(output, captions, {"k": k, "seed": seed, "model": model})
    try:
        plot_tail(clusters.counts, plot, title=title)
    except BaseException:
        if not existing:  # else half an output would be in the way of the next call
            output.unlink(missing_ok=True)
        raise
    return clusters
