"""A coverage as HTML with its pictures drawn by the browser: nothing is loaded from anywhere."""

from __future__ import annotations

import json
from html import escape
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refreeze.verbs.coverage_report import Coverage

__all__ = ["canvases", "page"]

_SCRIPT = """
(function(c){const d=JSON.parse(c.dataset.map),n=c.nextElementSibling,g=c.getContext('2d');
const w=d.values.length,h=d.values[0].length,im=g.createImageData(w,h);
for(let x=0;x<w;x++)for(let y=0;y<h;y++){const v=d.values[x][y],o=4*(y*w+x);
const t=v===null?-1:(d.high>d.low?(v-d.low)/(d.high-d.low):1);
im.data[o]=t<0?255:Math.round(190-170*t);im.data[o+1]=t<0?255:Math.round(60+60*t);
im.data[o+2]=t<0?255:Math.round(40+140*t);im.data[o+3]=255}
g.putImageData(im,0,0);
c.onmousemove=function(e){const b=c.getBoundingClientRect();
const x=Math.min(w-1,Math.max(0,Math.floor((e.clientX-b.left)/b.width*w)));
const y=Math.min(h-1,Math.max(0,Math.floor((e.clientY-b.top)/b.height*h)));
const v=d.values[x][y];n.textContent=d.x[x]+(d.y.length?', '+d.y[y]:'')+': '+(v===null?'-':v)+' '+d.unit};
c.onmouseleave=function(){n.textContent=' '}})(document.currentScript.previousElementSibling.querySelector('canvas'));
"""


def canvases(coverage: Coverage, *, color: str) -> str:
    """Return the pictures of all arrays, each with a line that tells what the pointer is over."""
    return "".join(_canvas(array, color) for array in coverage.arrays if array.possible)


def _canvas(array: Any, color: str) -> str:
    from refreeze.verbs.coverage_picture import bins_of, cells, scale_of

    values = cells(array, color)
    low, high, unit = scale_of(values, color)
    texts = [
        [_text(one) for one in bins_of(array, which)] if which < len(array.tally.axes) else []
        for which in (0, 1)
    ]
    data = {
        "values": [[None if v != v else round(float(v), 4) for v in row] for row in values],  # noqa: PLR0124 NaN
        "x": texts[0] or [""],
        "y": texts[1],
        "low": low,
        "high": high,
        "unit": unit,
    }
    names = [array.dims[axis] for axis in array.tally.axes]
    size = f'width="{values.shape[0]}" height="{values.shape[1]}"'
    style = "width:100%;max-width:60em;height:12em;image-rendering:pixelated;border:1px solid #888"
    about = escape(f"{array.path} ({' right, '.join(names)}{' down' * (len(names) > 1)})")
    return (
        f"<div><p>{about}</p>"
        f'<canvas {size} style="{style}" data-map="{escape(json.dumps(data), quote=True)}">'
        f"</canvas><p>&nbsp;</p></div><script>{_SCRIPT}</script>"
    )


def _text(one: tuple[str, int, int, Any, Any]) -> str:
    name, start, stop, first, last = one
    if first is None:
        return f"{name} {start}:{stop}"
    return f"{name} {first}" if first == last else f"{name} {first} to {last}"


def page(coverage: Coverage, *, color: str) -> str:
    """Return a whole document."""
    lines = "\n".join(escape(line) for line in coverage.lines())
    return (
        '<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">'
        f"<title>coverage of {escape(coverage.url)}</title></head>"
        '<body style="font-family:sans-serif;margin:2em">'
        f"<h1>Coverage of {escape(coverage.url)}</h1><pre>{lines}</pre>"
        f"{canvases(coverage, color=color)}</body></html>\n"
    )
