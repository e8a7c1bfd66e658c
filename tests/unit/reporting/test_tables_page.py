"""Our Markdown as a page: the same words, and no name is anything but text."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgd3.base.errors import UserError
from mgd3.reporting.tables_page import html, tables_page


def test_what_our_tables_hold_is_rendered():
    text = html(
        '# Title\n\n## Part\n| a | n |\n|---|--:|\n| x \\| y\\_z | 1.0 |\n| `{"k": 1}` | 2 |\n\n'
        "* one `last`\n  goes on\n* two \\* three\n1. first\n2. second\n\nA line\nand another.\n"
    )
    assert "<h1>Title</h1>" in text and "<h2>Part</h2>" in text
    assert '<th>a</th><th class="number">n</th>' in text
    assert '<td>x | y_z</td><td class="number">1.0</td>' in text
    assert "<code>{&quot;k&quot;: 1}</code>" in text
    assert "<li>one <code>last</code>\n  goes on\n</li><li>two * three</li>" in text
    assert text.count("<li>") == 4 and "<ol><li>first" in text
    assert "<p>A line and another.</p>" in text


def test_names_are_text():
    text = html("| a |\n|---|\n| <script>alert(1)</script> |\n\n# <img src=x>\n* `<b>` \\<i>\n")
    assert "<script" not in text and "<img" not in text and "<b>" not in text and "<i>" not in text
    assert "&lt;script&gt;" in text and "<code>&lt;b&gt;</code> &lt;i&gt;" in text


def test_a_bar_and_a_backslash_in_a_cell_part_nothing():
    assert "<td>a\\</td><td>b</td>" in html("| x | y |\n|---|---|\n| a\\\\ | b |\n")
    assert "<td>a|b</td>" in html("| x |\n|---|\n| a\\|b |\n")


def test_a_page_holds_all_files_and_names_a_missing_one(tmp_path: Path):
    (tmp_path / "a.md").write_text("# one\n")
    (tmp_path / "b.md").write_text("# two\n")
    files = [tmp_path / "a.md", tmp_path / "b.md"]
    tables_page(files, "<demo>", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert text.index("one") < text.index("two") and "&lt;demo&gt;: tables" in text
    assert "default-src 'none'" in text
    with pytest.raises(UserError, match=r"c\.md"):
        tables_page([tmp_path / "c.md"], "demo", tmp_path / "page.html")
