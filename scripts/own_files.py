"""Two public data sets as somebody's own files, and the studies of examples/own-data/ on them.

    domain-experts fetch ml-100k && domain-experts fetch epinions
    python scripts/own_files.py

The terminal's answers go to results/own/<name>.txt.
"""

import subprocess
import sys
from pathlib import Path

import pandas as pd
from scipy.io import loadmat

from domain_experts.layout import raw

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "examples/own-data"
ANSWERS = ROOT / "results/own"
SINCE = 6
"""Of Epinions' eleven periods the first that is kept: about 290,000 ratings are left."""


def movielens_100k(folder: Path) -> pd.DataFrame:
    """Ratings, each with what is known of its user and item."""
    genres = pd.read_csv(folder / "u.genre", sep="|", names=["genre", "number"])["genre"].tolist()
    ratings = pd.read_csv(folder / "u.data", sep="\t", names=["user_id", "item_id", "rating", "ts"])
    users = pd.read_csv(
        folder / "u.user", sep="|", names=["user_id", "age", "gender", "occupation", "zip"]
    )
    about = ["item_id", "title", "released", "video", "url"]
    items = pd.read_csv(folder / "u.item", sep="|", encoding="latin-1", names=[*about, *genres])
    items["year"] = pd.to_datetime(items["released"], format="%d-%b-%Y").dt.year.astype("Int64")
    items["genres"] = [
        "|".join(genre for genre, is_one in zip(genres, flags, strict=True) if is_one)
        for flags in items[genres].to_numpy()
    ]
    items = items[["item_id", "title", "year", "genres"]]
    return ratings.merge(users, on="user_id").merge(items, on="item_id")


def epinions(folder: Path) -> pd.DataFrame:
    """The later ratings; how helpful they were found was known after them, and is left out."""
    matrix = loadmat(folder / "epinions_rating_with_timestamp.mat")["rating"].astype("int64")
    columns = ["user", "item", "category", "rating", "helpfulness", "ts"]
    ratings = pd.DataFrame(matrix, columns=columns).drop(columns="helpfulness")
    return ratings[ratings["ts"] >= SINCE]


def answered(file: Path) -> None:
    """Run a study and keep what `answer` prints."""
    command = str(Path(sys.executable).with_name("domain-experts"))
    subprocess.run([command, "study", file.name], cwd=STUDIES, check=True)
    said = subprocess.run(
        [command, "answer", file.name], cwd=STUDIES, check=True, stdout=subprocess.PIPE, text=True
    )
    ANSWERS.mkdir(parents=True, exist_ok=True)
    (ANSWERS / f"{file.stem}.txt").write_text(said.stdout, encoding="utf-8")


def main() -> None:
    """Make files, studies and answers."""
    source = ROOT / raw("ml-100k")
    movielens_100k(source).to_csv(STUDIES / "movielens-100k.csv", index=False)
    source = ROOT / raw("epinions")
    epinions(source).to_parquet(STUDIES / "epinions.parquet", index=False)
    for file in sorted(STUDIES.glob("*.yaml")):
        answered(file)


if __name__ == "__main__":
    main()
