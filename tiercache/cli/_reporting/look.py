"""How the page looks: its colours in light and dark, and its styles. Nothing is loaded from anywhere."""

from __future__ import annotations

__all__ = ["DARK", "LIGHT", "SERIES", "css"]

#: Colours by their names in the styles: ``paper`` is the page, ``card`` what lies on it; text is ``ink`` or,
#: where it matters less, ``soft``; ``rule`` are lines that only help; ``c1`` to ``c6`` are series.
LIGHT = {
    "paper": "#f4f5f7",
    "card": "#ffffff",
    "ink": "#1b1f27",
    "soft": "#545c6b",
    "rule": "#d9dde4",
    "bad": "#b3261e",
    "warn": "#8a5300",
    "c1": "#1f5fbf",
    "c2": "#b4530a",
    "c3": "#0f766e",
    "c4": "#8b2fa0",
    "c5": "#a8325c",
    "c6": "#6b7280",
}
DARK = {
    "paper": "#12151b",
    "card": "#1b2029",
    "ink": "#e8ebf1",
    "soft": "#a7b0c0",
    "rule": "#343b48",
    "bad": "#ff9a92",
    "warn": "#f2b866",
    "c1": "#6ea8ff",
    "c2": "#f0a05a",
    "c3": "#4fd1c0",
    "c4": "#d08bf0",
    "c5": "#ff8fb0",
    "c6": "#98a2b3",
}
#: Series that have a colour of their own; the last is of all others.
SERIES = 6

_STYLES = """
*{box-sizing:border-box}
html{background:var(--paper);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif;-webkit-text-size-adjust:100%}
body{margin:0 auto;max-width:1360px;padding:24px 16px 48px}
h1{font-size:1.6rem;line-height:1.2;margin:0 0 4px;overflow-wrap:anywhere}
h2{font-size:1.2rem;margin:32px 0 12px}
h3{font-size:1rem;margin:0 0 2px}
p{margin:0 0 8px}
.soft,figcaption,footer{color:var(--soft);font-size:.875rem}
.grid{display:grid;gap:16px;grid-template-columns:repeat(auto-fit,minmax(min(100%,310px),1fr))}
.grid>:only-child{max-width:440px}
.tiles{display:grid;gap:12px;grid-template-columns:repeat(auto-fit,minmax(min(100%,220px),1fr))}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:16px;margin:0;
min-width:0;break-inside:avoid}
figure svg{display:block;width:100%;max-width:520px;height:auto;margin:8px auto 0}
.tile b{display:block;font-size:1.5rem;line-height:1.25;font-variant-numeric:tabular-nums;
overflow-wrap:anywhere}
.tile span{display:block}
.tag{color:var(--soft);font-size:.8125rem}
.said{border-left:4px solid var(--c1);padding:10px 14px;margin:0 0 8px;background:var(--card);
border-radius:0 8px 8px 0}
.problem{border-left-color:var(--bad)}
.bad{color:var(--bad);font-weight:600}
.warn{color:var(--warn);font-weight:600}
.legend{display:flex;flex-wrap:wrap;gap:4px 14px;list-style:none;margin:6px 0 0;padding:0;font-size:.875rem}
.legend i{display:inline-block;width:12px;height:12px;border-radius:2px;margin-right:6px;vertical-align:-1px}
.scroll{overflow-x:auto;margin:0 0 16px}
details{margin:12px 0 0}
details .scroll{margin:8px 0 0}
footer{margin:32px 0 0}
table{border-collapse:collapse;width:100%;font-size:.9375rem}
th,td{padding:7px 10px;text-align:right;border-bottom:1px solid var(--rule);font-variant-numeric:tabular-nums;
white-space:nowrap}
th{color:var(--soft);font-weight:600;font-size:.8125rem}
th:first-child,td:first-child,.t{text-align:left}
td:first-child,td.t{overflow-wrap:anywhere;white-space:normal;min-width:7rem}
tbody tr:last-child td{border-bottom:0}
tfoot td{font-weight:600;border-top:2px solid var(--rule)}
summary{cursor:pointer;padding:4px 0;color:var(--ink)}
:focus-visible{outline:3px solid var(--c1);outline-offset:2px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:4px 16px;margin:0;font-size:.9375rem}
dt{color:var(--soft)}dd{margin:0;font-variant-numeric:tabular-nums}
svg text{fill:var(--soft);font-size:13px;font-variant-numeric:tabular-nums}
svg .name{fill:var(--ink)}
svg .rule{stroke:var(--rule);stroke-width:1}
svg .limit{stroke:var(--ink);stroke-width:1.5;stroke-dasharray:5 4}
svg .back{fill:var(--rule)}
svg .part{stroke:var(--card);stroke-width:1}
@media (max-width:700px){
.tiles{grid-template-columns:1fr 1fr}
.tiles .card{padding:12px}
.tile b{font-size:1.25rem}
.stack thead{position:absolute;width:1px;height:1px;overflow:hidden;clip-path:inset(50%)}
.stack,.stack tbody,.stack tfoot,.stack tr,.stack td{display:block;width:100%}
.stack tr{padding:8px 0;border-bottom:1px solid var(--rule)}
.stack td{display:flex;justify-content:space-between;gap:16px;border:0;padding:2px 0;white-space:normal;
text-align:right;overflow-wrap:anywhere}
.stack td:first-child{font-weight:600;text-align:left}
.stack td:not(:first-child)::before{content:attr(data-label);color:var(--soft);text-align:left;
overflow-wrap:normal;flex:none}
}
@page{size:landscape;margin:12mm}
@media print{
:root{--paper:#ffffff}
body{max-width:none;padding:0}
.scroll{overflow:visible;break-inside:auto}
table{font-size:.75rem}
th{font-size:.6875rem}
th,td{padding:4px 6px}
tr{break-inside:avoid}
h2{break-after:avoid}
tfoot{display:table-row-group}
details::details-content{content-visibility:visible;display:block;height:auto}
.card{border-color:#999}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}
}
"""


def css() -> str:
    """All of it. Paper is always light."""
    series = "".join(
        f".c{number}{{fill:var(--c{number});background:var(--c{number})}}"
        f".e{number}{{fill:var(--c{number});fill-opacity:.3;stroke:var(--c{number});stroke-width:1.5;"
        f"border:2px solid var(--c{number})}}"
        for number in range(1, SERIES + 1)
    )
    return (
        f":root{{color-scheme:light;{_variables(LIGHT)}}}"
        f"@media screen and (prefers-color-scheme:dark){{:root{{color-scheme:dark;{_variables(DARK)}}}}}"
        f"{_STYLES}{series}"
    )


def _variables(colours: dict[str, str]) -> str:
    return ";".join(f"--{name}:{colour}" for name, colour in colours.items())
