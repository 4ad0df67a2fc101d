"""Makes report.html and its pictures of bench/run.sh's JSON files; bench/report is its front."""

import base64
import html
import json
import os
import sys

import figures
import plots

STYLE = """
body { font: 15px/1.45 sans-serif; max-width: 76em; margin: 2em auto; padding: 0 1em; }
table { border-collapse: collapse; margin: 1em 0; font-size: 13px; }
th, td { border-bottom: 1px solid #ddd; padding: 2px 9px; text-align: left; }
td:nth-child(n+4) { text-align: right; font-variant-numeric: tabular-nums; }
img { max-width: 100%; }
.warning { background: #fff3cd; padding: 0.6em 1em; }
"""
# Kinds of KVM that are something else than the processor's own virtualization.
HARDWARE = ("vmx", "svm")


class Unusable(Exception):
    """A file there can be no report on, and why."""


def read(paths):
    """{part: (path, conditions, cases)}."""
    parts = {}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                run = json.load(file)
            for part, cases in run["results"].items():
                parts[part] = (path, run["conditions"], cases)
        except OSError as error:
            raise Unusable(f"cannot read {path}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise Unusable(f"{path} is not what bench/run.sh --json writes") from error
    return parts


def conditions_html(path, conditions):
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(str(value))}</td></tr>"
                    for name, value in {**conditions, "file": os.path.basename(path)}.items())
    warnings = []
    if conditions.get("kvm") not in HARDWARE:
        warnings.append(f"This host's KVM is “{conditions.get('kvm', 'unknown')}”, not the "
                        "processor's own virtualization: other hosts will differ.")
    if "incomplete" in conditions:
        warnings.append(f"Incomplete: {conditions['incomplete']}")
    return (f"<table>{cells}</table>"
            + "".join(f'<p class="warning">{html.escape(text)}</p>' for text in warnings))


def table_html(result):
    head, *rows = result.rows()
    lines = ["<tr>" + "".join(f"<th>{html.escape(cell)}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
              for row in rows]
    told = "".join(f"<p>{html.escape(text)}</p>" for text in result.told())
    return f"<table>{''.join(lines)}</table>{told}"


def picture_html(path):
    with open(path, "rb") as file:
        data = base64.b64encode(file.read()).decode()
    name = html.escape(os.path.basename(path))
    return f'<p><img alt="{name}" src="data:image/png;base64,{data}"></p>'


def main():
    out, *paths = sys.argv[1:]
    try:
        parts = read(paths)
        if not parts:
            raise Unusable("there is no figure in these files")
    except Unusable as reason:
        print(f"error: {reason}", file=sys.stderr)
        return 1
    body = []
    for part, (path, conditions, cases) in parts.items():
        body.append(f"<h2>{html.escape(part)}</h2>{conditions_html(path, conditions)}")
        body += [picture_html(picture) for picture in plots.draw(part, cases, out)]
        body.append(table_html(figures.Figures(cases)))
    page = ("<!DOCTYPE html><html lang=\"en\"><meta charset=\"utf-8\"><title>pacsvisor bench"
            f"</title><style>{STYLE}</style><h1>pacsvisor bench</h1>"
            "<p>Medians of single figures, with their spread. A ratio above 1 means that pacsvisor "
            "is the better one.</p>" + "".join(body) + "</html>\n")
    target = os.path.join(out, "report.html")
    with open(target, "w", encoding="utf-8") as file:
        file.write(page)
    print(target)
    return 0


sys.exit(main())
