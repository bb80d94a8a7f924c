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
    """Numbers on the page that do not stand in the results."""
    return numbers_on(page) - sources(results)


def numbers_on(page):
    """Numbers of two digits and more in the text of the page."""
    _, text = read(re.sub(r"<style>.*?</style>|CLAIM: Tejani.*?e078378", "", page, flags=re.DOTALL))
    found = {number.rstrip(",").replace(",", "") for number in NUMBER.findall(html.unescape(text))}
    return {number for number in found if len(number) > 1}


def sources(results):
    """The numbers of the results as the page may write them, and those in their texts.

    The texts of the checklist do not count, so that its answers too are looked for among the figures; nor do the
    hundreds of points that are only drawn, for among them almost any number can be found.
    """
    known = set(CONSTANTS) | {f"{tick / 20:.2f}" for tick in range(21)}  # ends of the small axes
    _collect({key: item for key, item in results.items() if key != "checklist"}, known)
    if "pr" in results:
        known |= _formats(next(iter(results["pr"].values()))["prevalence"], "prevalence")
    known |= {item["item"] for item in results["checklist"]["items"]}
    return known | {str(count) for counts in results["checklist"]["counts"].values() for count in counts.values()}


# Drawn, but never written as text.
DRAWN = {"roc", "pr", "bins", "decision", "line", "curves"}
# Keys whose shares the page rounds to whole per cent.
WHOLE_PER_CENT = {"draw", "test", "width"}


def _collect(value, known, key=""):
    if isinstance(value, dict):
        for name, item in value.items():
            known |= {number.rstrip(",").replace(",", "") for number in NUMBER.findall(name)}
            if name not in DRAWN:
                # The ends of a forecast's interval are numbers of studies.
                _collect(item, known, "labels" if key == "forecast" else name)
    elif isinstance(value, list):
        for item in value:
            _collect(item, known, key)
    elif isinstance(value, str):
        known |= {number.rstrip(",").replace(",", "") for number in NUMBER.findall(value)}
    elif isinstance(value, int | float) and not isinstance(value, bool):
        known |= _formats(value, key)


def _formats(value, key):
    """A count only as it is; a figure with three decimals or four digits, a share with one decimal of a per cent."""
    size = abs(value)
    if isinstance(value, int):
        return {str(size)}
    found = {f"{size:.3f}", f"{size:.4g}", f"{100 * size:.1f}"}
    if key in WHOLE_PER_CENT:
        found.add(f"{100 * size:.0f}")
    if key == "label_fraction":
        found.add(f"{100 * size:.4g}")
    if key == "labels":
        found.add(f"{size:.0f}")
    return found
