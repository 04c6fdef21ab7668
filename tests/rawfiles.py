"""Writers of small random raw files, each in the exact format of its source."""

import gzip
import json

import numpy as np
import scipy.io

from domain_experts.data.registry import FILE_FORMATS


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


def write_reviews(folder, file_format="amazon-6", users=60, items=30, rows=300, seed=0):
    """5-core files of 2018: one JSON object a line, with keys that are not read."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for d, name in enumerate(FILE_FORMATS[file_format]):
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


def write_mamdr(
    folder, file_format="mamdr-taobao-10", users=50, items=30, rows=60, width=8, seed=0
):
    """Prepared files; every domain and split has rows of both classes."""
    rng = np.random.default_rng(seed)
    (folder / "processed_data").mkdir(parents=True, exist_ok=True)
    for name, size in (("uid", users), ("pid", items)):
        content = {"id": size, "raw_id2id": {str(900 + code): code for code in range(size)}}
        (folder / f"processed_data/{name}2id.json").write_text(json.dumps(content))
    for name, size in (("user", users), ("item", items)):
        if f"processed_data/{name}_emb.json" in FILE_FORMATS[file_format]:
            vectors = {str(code): cell(rng.normal(size=width)) for code in range(size)}
            (folder / f"processed_data/{name}_emb.json").write_text(json.dumps(vectors))
    domains = sum(name.endswith("train.csv") for name in FILE_FORMATS[file_format])
    for d in range(domains):
        for part, name in enumerate(("train", "val", "test")):
            user, item = clicks(users, items, rows // (1 + part), rng)
            label = np.arange(len(user)) % 2
            table = np.stack([user, item, np.full(len(user), d), label], axis=1).tolist()
            write_csv(folder / f"domain_{d}" / f"{name}.csv", "uid,pid,domain,label", table)
        property_ = {"domain_name": f"theme_{d}", "n_uid": users, "n_pid": items, "ctr_ratio": 0.3}
        (folder / f"domain_{d}" / "domain_property.json").write_text(json.dumps(property_))


KUAIRAND_LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,"
    "is_hate,long_view,play_time_ms,duration_ms,profile_stay_time,comment_stay_time,"
    "is_profile_enter,is_rand,tab"
)
KUAIRAND_USER = (
    "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,"
    "follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,"
    "friend_user_num_range,register_days,register_days_range,"
    + ",".join(f"onehot_feat{i}" for i in range(18))
)
KUAIRAND_VIDEO = (
    "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "server_width,server_height,music_id,music_type,tag"
)


def write_kuairand_logs(folder, users, videos, rows, seed=0):
    """Three logs; what comes after the impression is random; tabs 0, 1, 2 and 4."""
    rng = np.random.default_rng(seed)
    for name in FILE_FORMATS["kuairand-pure"][:3]:
        n = rows if "standard" in name else rows // 2
        columns = {key: rng.integers(0, 2, n) for key in KUAIRAND_LOG.split(",")}
        columns |= {
            "user_id": rng.choice(users, n),
            "video_id": rng.choice(videos, n),
            "time_ms": 1_649_400_000_000 + rng.integers(0, 500, n),
            "tab": rng.choice([0, 1, 2, 4], n),
            "is_rand": np.full(n, int("random" in name)),
        }
        write_csv(folder / name, KUAIRAND_LOG, zip(*columns.values(), strict=True))


def write_kuairand(folder, users=40, videos=25, rows=300, seed=0):
    """Features by id in random order; some cells are empty, some quoted."""
    rng = np.random.default_rng(seed)
    write_kuairand_logs(folder, users - 1, videos - 1, rows, seed)
    ranges = ('"(0,10]"', "500+", '"[1k,5k)"')
    people = [
        (
            *(u, ("full_active", "new")[u % 2], 0, (-124, 1)[u % 3 == 0], u % 2),
            *(
                7 * u,
                ranges[u % 3],
                3 * u * u,
                ranges[u % 2],
                u % 5,
                ranges[u % 3],
                100 + u,
                "730+",
            ),
            *(("", "0.0", "1.0")[(u + i) % 3] if i > 11 else (u * i) % (i + 2) for i in range(18)),
        )
        for u in rng.permutation(users).tolist()
    ]
    write_csv(folder / "user_features_pure.csv", KUAIRAND_USER, people)
    films = [
        (
            *(
                v,
                900 - v // 2,
                ("NORMAL", "AD")[v % 4 == 0],
                f"2022-04-{9 + v % 3:02d}",
                "Web",
                0.0,
            ),
            *("" if v % 6 == 0 else 5000.0 + 100 * v, 720.0, 1280.0 - v % 3),
            *(5_806_810_746 + v % 7, "" if v % 5 == 0 else 9.0, ("", "39", '"39,20"')[v % 3]),
        )
        for v in rng.permutation(videos).tolist()
    ]
    write_csv(folder / "video_features_basic_pure.csv", KUAIRAND_VIDEO, films)
