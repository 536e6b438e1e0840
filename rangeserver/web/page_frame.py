"""What is around the content of a page: its style, and a script that keeps it fresh.

The page needs no script: without one it loads itself anew. Just these two may have an effect on
it, named by their hashes; whatever else got into it could neither run nor load anything.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

REFRESH_SECONDS = 5

_STYLE = """
:root{color-scheme:light dark;--ink:#1c2128;--soft:#59636e;--ground:#fff;--card:#f4f6f8;
--line:#d5dae0;--bar:#2f6feb;--good:#1a7f37;--bad:#b42318}
@media (prefers-color-scheme:dark){:root{--ink:#e3e8ee;--soft:#9aa5b1;--ground:#14181d;
--card:#1d2329;--line:#353d46;--bar:#5b9bff;--good:#4cc26a;--bad:#ff8577}}
*{box-sizing:border-box}
body{margin:0 auto;padding:1.2rem 1.5rem 3rem;max-width:110rem;background:var(--ground);
color:var(--ink);font:15px/1.45 system-ui,sans-serif;font-variant-numeric:tabular-nums}
header{display:flex;flex-wrap:wrap;gap:.3rem 1rem;align-items:baseline}
h1{font-size:1.35rem;margin:0}h2{font-size:1.05rem;margin:1.8rem 0 .5rem}
p{margin:.3rem 0}.soft,dt,th{color:var(--soft)}.good{color:var(--good)}.bad{color:var(--bad)}
a{color:inherit}.state{font-weight:600;overflow-wrap:anywhere}.state::before{content:"\\25CF  "}
dl{display:grid;grid-template-columns:repeat(auto-fit,minmax(13rem,1fr));gap:.6rem;margin:1rem 0}
dl div{background:var(--card);border-radius:.5rem;padding:.55rem .8rem}
dt{font-size:.85em}dd{margin:0;overflow-wrap:anywhere}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.35rem .9rem .35rem 0;
border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:500;font-size:.85em}
td.small{font-size:.87em}
td.key,td.id{white-space:normal;overflow-wrap:anywhere}td.key{width:100%;min-width:15rem}
td.id{min-width:10.5rem;font-size:.87em}
td.key span,td.id span{display:-webkit-box;-webkit-box-orient:vertical;-webkit-line-clamp:3;
overflow:hidden}
progress{display:block;width:100%;min-width:6rem;height:.3rem;margin-top:.25rem;border:0;
border-radius:.15rem;overflow:hidden;appearance:none;background:var(--line);accent-color:var(--bar)}
progress::-webkit-progress-bar{background:var(--line)}
progress::-webkit-progress-value{background:var(--bar)}
progress::-moz-progress-bar{background:var(--bar)}
footer{margin-top:2rem;font-size:.85em}body[data-lost] main{opacity:.45}
@media (max-width:60rem){body{padding:1rem}dl{grid-template-columns:repeat(2,minmax(0,1fr))}
thead{display:none}table,tbody,td{display:block}
tr{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:.35rem 1rem;margin:.6rem 0;
background:var(--card);border-radius:.5rem;padding:.6rem .8rem}
td,td.key,td.id{border:0;padding:0;min-width:0;width:auto;white-space:normal;
overflow-wrap:anywhere}
td.key{grid-column:1/-1}td::before{content:attr(data-name);display:block;color:var(--soft);
font-size:.8rem}td.key::before{display:none}}
"""

_SCRIPT = f"""
const note = document.querySelector("footer");
async function renew() {{
  if (!document.hidden && getSelection().isCollapsed) {{
    try {{
      const answer = await fetch(location.href, {{cache: "no-store"}});
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      document.querySelector("main").replaceWith(page.querySelector("main"));
      note.textContent = page.querySelector("footer").textContent;
      delete document.body.dataset.lost;
    }} catch {{
      if (!("lost" in document.body.dataset)) note.textContent += " No answer now.";
      document.body.dataset.lost = "";
    }}
  }}
  setTimeout(renew, {REFRESH_SECONDS * 1000});
}}
setTimeout(renew, {REFRESH_SECONDS * 1000});
"""


def _hash(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"


PAGE_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; style-src {_hash(_STYLE)}; script-src {_hash(_SCRIPT)}; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
}


def framed(main: str, footer: str) -> str:
    """A whole page around what stands in it."""
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<noscript><meta http-equiv="refresh" content="{REFRESH_SECONDS}"></noscript>'
        f"<title>rangeserver</title><style>{_STYLE}</style></head>\n<body><main>{main}</main>\n"
        f'<footer class="soft">{footer}</footer><script>{_SCRIPT}</script></body></html>\n'
    )
