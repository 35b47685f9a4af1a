"""The order in which the report is read."""

from biomeg_lib.report import navigation


def test_chapters_stand_in_groups_in_the_order_of_reading():
    stems = ["mine", "runs", "size", "vocab", "report", "also-mine"]
    grouped = navigation.grouped([(stem, stem.upper(), f"{stem}.html") for stem in stems])
    assert [(group, [title for title, _ in links]) for group, links in grouped] == [
        ("Study", ["REPORT"]),
        ("Factors", ["VOCAB", "SIZE"]),
        ("Computing", ["RUNS"]),
        ("More", ["MINE", "ALSO-MINE"]),
    ]


def test_neighbours_cross_groups_and_end_at_the_ends():
    groups = [("One", [("A", "a.html")]), ("Two", [("B", "b.html"), ("C", "c.html")])]
    assert navigation.neighbours(groups, "a.html") == (None, ("B", "b.html"))
    assert navigation.neighbours(groups, "b.html") == (("A", "a.html"), ("C", "c.html"))
    assert navigation.neighbours(groups, "c.html") == (("B", "b.html"), None)
    assert navigation.neighbours(groups, "pretrain.x.html") == (None, None)


def test_no_chapter_is_in_two_groups():
    stems = [stem for group in navigation.GROUPS.values() for stem in group]
    assert len(stems) == len(set(stems))
