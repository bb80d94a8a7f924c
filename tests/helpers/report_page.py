"""Reading `report.html`: its text, what it refers to, and numbers that do not stand in `results.json`."""

import html
import re
from html.parser import HTMLParser

# Words of the page, not figures: 95 % CI, "in 95 of 100", guessing, the level of p, SHA-256, the name of a checklist.
CONSTANTS = {"95", "100", "0.5", "0.05", "0.001", "256", "2024"}
NUMBER = re.compile(r"(?<![\w.,])\d[\d,]*(?:\.\d+)?(?![\w])")


class Page(HTMLParser):
    """Tags that open and close, ids, what is referred to, and the text."""

    def __init__(self):
        super().__init__()
        self.open, self.references, self.tags, self.text, self.ids = [], [], set(), [], []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.text.append(" " if tag in ("td", "th", "p", "li", "dt", "dd", "span", "h2", "h3", "summary") else "")

    def handle_data(self, data):
        self.text.append(data)


def read(page):
    """The parser and the text of a page whose tags all close."""
    parser = Page()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser, " ".join("".join(parser.text).replace("\xa0", " ").split())


def numbers_without_a_source(page, results):
    """Numbers of two digits and more on the page that are in no format a number of the results, nor in a text of them.

    The texts of the checklist do not count, so that its answers too are looked for among the figures.
    """
    known = set(CONSTANTS) | {f"{tick / 20:.2f}" for tick in range(21)}  # ends of the small axes
    _collect({key: item for key, item in results.items() if key != "checklist"}, known)
    known |= {item["item"] for item in results["checklist"]["items"]}
    known |= {str(count) for counts in results["checklist"]["counts"].values() for count in counts.values()}
    _, text = read(re.sub(r"<style>.*?</style>|CLAIM: Tejani.*?e078378", "", page, flags=re.DOTALL))
    found = {number.rstrip(",").replace(",", "") for number in NUMBER.findall(html.unescape(text))}
    return {number for number in found if len(number) > 1} - known


def _collect(value, known):
    if isinstance(value, dict):
        for key, item in value.items():
            _collect(key, known)
            _collect(item, known)
    elif isinstance(value, list):
        for item in value:
            _collect(item, known)
    elif isinstance(value, str):
        known |= {number.rstrip(",").replace(",", "") for number in NUMBER.findall(value)}
    elif isinstance(value, int | float) and not isinstance(value, bool):
        size = abs(value)
        known |= {f"{size:.{digits}f}" for digits in range(4)} | {f"{size:.4g}"}
        known |= {f"{100 * size:.0f}", f"{100 * size:.1f}", f"{100 * size:.4g}"}
