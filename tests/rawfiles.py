"""Writers of small random raw files, each in the exact layout of its source."""

import gzip
import json

import numpy as np
import scipy.io

from domain_experts.data.registry import LAYOUTS


def write_epinions(folder, users=60, items=40, rows=1500, categories=4, seed=0):
    """A few exact duplicates, pairs rated more than once, items seen under two categories."""
    rng = np.random.default_rng(seed)
    user, item = rng.integers(1, users + 1, rows), rng.integers(1, items + 1, rows)
    stray = rng.random(rows) < 0.1
    category = np.where(stray, rng.integers(1, categories + 1, rows), item % categories + 1)
    columns = [user, item, category, *rng.integers(1, 6, (2, rows)), rng.integers(1, 12, rows)]
    rating = np.stack(columns, axis=1).astype(np.int32)
    rating = np.concatenate([rating, rating[rng.integers(0, rows, 20)]])
    folder.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(folder / "epinions_rating_with_timestamp.mat", {"rating": rating})
    return rating


def clicks(users, items, rows, rng):
    """Random pairs, some more than once, and popular items."""
    user = rng.integers(0, users, rows)
    return user, (items * rng.random(rows) ** 2).astype(int)


def write_csv(path, header, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")


def write_amazon_3(folder, users=60, items=30, rows=300, seed=0):
    """Each domain has items of its own and shares its users."""
    rng = np.random.default_rng(seed)
    table = []
    for domain in ("Beauty", "Toys", "Sports"):
        pairs = zip(*clicks(users, items, rows, rng), strict=True)
        table += [
            (f"A{user:03d}", f"{domain[0]}{item:03d}", domain, position)
            for position, (user, item) in enumerate(dict.fromkeys(pairs))
        ]
    write_csv(folder / "interactions.csv", "user,item,domain,position", table)


def write_reviews(folder, layout="amazon-6", users=60, items=30, rows=300, seed=0):
    """5-core files of 2018: one JSON object a line, with keys that are not read."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for d, name in enumerate(LAYOUTS[layout]):
        lines = [
            json.dumps(
                {
                    "overall": float(rng.integers(1, 6)),
                    "verified": True,
                    "reviewerID": f"A{user:03d}",
                    "asin": f"B{d}{item:03d}",
                    "style": {"Format:": " MP3"},
                    "reviewText": 'Crème, "fine"\nand more',
                    "unixReviewTime": 1400000000 + int(user),
                }
            )
            for user, item in zip(*clicks(users, items, rows, rng), strict=True)
        ]
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")


def cell(vector):
    return " ".join(f"{number:.6f}" for number in vector)


def write_taobao(folder, themes=5, users=60, items=40, rows=400, width=8, seed=0):
    """Some users and items have no vector, some vectors no click; themes are interleaved."""
    rng = np.random.default_rng(seed)
    user, item = clicks(users, items, rows, rng)
    theme = rng.integers(0, themes, rows)
    log = zip(user + 7000, item + 300, theme * 11 + 5, strict=True)
    write_csv(
        folder / "theme_click_log.csv",
        "user_id,theme_id,item_id,leaf_cate_id,cate_level1_id,reach_time",
        [
            (u, t, i, 1, 2, f"2018/5/{1 + row % 9} 10:{row % 60:02d}")
            for row, (u, i, t) in enumerate(log)
        ],
    )
    for name, first, size in (("user", 7000, users), ("item", 300, items)):
        ids = rng.permutation(np.arange(first, first + size + 5))
        ids = ids[ids % 7 > 0]
        vectors = zip(ids, rng.normal(size=(len(ids), width)), strict=True)
        write_csv(
            folder / f"{name}_embedding.csv",
            f"{name}_id,emb",
            [(code, cell(vector)) for code, vector in vectors],
        )


def write_mamdr(folder, layout="mamdr-taobao-10", users=50, items=30, rows=60, width=8, seed=0):
    """Prepared files; every domain and split has rows of both classes."""
    rng = np.random.default_rng(seed)
    (folder / "processed_data").mkdir(parents=True, exist_ok=True)
    for name, size in (("uid", users), ("pid", items)):
        content = {"id": size, "raw_id2id": {str(900 + code): code for code in range(size)}}
        (folder / f"processed_data/{name}2id.json").write_text(json.dumps(content))
    for name, size in (("user", users), ("item", items)):
        if f"processed_data/{name}_emb.json" in LAYOUTS[layout]:
            vectors = {str(code): cell(rng.normal(size=width)) for code in range(size)}
            (folder / f"processed_data/{name}_emb.json").write_text(json.dumps(vectors))
    domains = sum(name.endswith("train.csv") for name in LAYOUTS[layout])
    for d in range(domains):
        for part, name in enumerate(("train", "val", "test")):
            user, item = clicks(users, items, rows // (1 + part), rng)
            label = np.arange(len(user)) % 2
            table = np.stack([user, item, np.full(len(user), d), label], axis=1).tolist()
            write_csv(folder / f"domain_{d}" / f"{name}.csv", "uid,pid,domain,label", table)
        property_ = {"domain_name": f"theme_{d}", "n_uid": users, "n_pid": items, "ctr_ratio": 0.3}
        (folder / f"domain_{d}" / "domain_property.json").write_text(json.dumps(property_))
