"""The table of figures: common tags are columns, and no metric is lost."""

from goku_cli.manifest.figures import pivot


def test_rare_tags_are_left_out_unless_a_metric_has_no_other():
    figures = [{"metric": name, "tag": "all", "value": 1.0} for name in "abcdef"]
    figures += [{"metric": "a", "tag": "fade", "value": 0.5}, {"metric": "tv", "tag": "before", "value": 0.3}]
    columns, lines = pivot(figures)
    assert columns == ["metric", "all", "before"]
    assert lines[0] == ["a", 1.0, ""]
    assert lines[-1] == ["tv", "", 0.3]


def test_nothing_makes_an_empty_table():
    assert pivot([]) == (["metric"], [])


def test_controls_are_the_last_columns_however_few_metrics_have_them():
    figures = [{"metric": name, "tag": "all", "value": 1.0} for name in "abcdef"]
    figures += [{"metric": "a", "tag": tag, "value": 0.1} for tag in ("mismatched", "chance", "codec")]
    figures += [{"metric": name, "tag": "unseen", "value": 0.5} for name in "abc"]
    columns, lines = pivot(figures)
    assert columns == ["metric", "all", "unseen", "codec", "chance", "mismatched"]
    assert lines[0] == ["a", 1.0, 0.5, 0.1, 0.1, 0.1]
