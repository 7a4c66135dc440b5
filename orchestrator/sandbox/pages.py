"""The pages to which the sandbox's URLs lead: a lab in its window, as a learner would see it.

When its instance is gone, a lab's page tells its opener ``labDone``, as the platform's does.
"""

from __future__ import annotations

from html import escape
from string import Template

_FRAME = Template(
    """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/_sandbox/lab.css">
$body
</html>
"""
)


def lab(name: str, instance_id: int) -> str:
    """A lab's page."""
    return _FRAME.substitute(
        title=escape(name),
        body=f"""<script type="module" src="/_sandbox/lab.js"></script>
<header><strong>{escape(name)}</strong> <span>instance {instance_id}</span>
<span id="state" role="status">Running</span></header>
<main><p class="prompt">student@sandbox:~$ <b>_</b></p>
<h1>A lab of the sandbox</h1></main>""",
    )


#: A single-use link that was used before.
USED = _FRAME.substitute(
    title="Link used", body="<main><h1>This link has been used</h1><p>Ask for another one.</main>"
)
#: Where a learner would end a lab by hand.
ACTIVE_LABS = _FRAME.substitute(
    title="Active labs",
    body="<main><h1>Your active labs</h1><p>A page of the platform, to end a lab by hand.</main>",
)

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.5 system-ui, sans-serif; }
body { margin: 0; }
header { display: flex; flex-wrap: wrap; gap: .25rem 1rem; padding: .8rem 1.2rem;
  background: #14324f; color: #fff; }
header span { color: #c9d8e8; }
#state { margin-inline-start: auto; }
main { padding: 1.2rem; }
h1 { font-size: 1rem; }
.prompt { padding: 1rem; border-radius: .5rem; background: #10151b; color: #9fe3a8;
  font-family: ui-monospace, monospace; min-block-size: 12rem; }
"""

_SCRIPT = """
const token = location.pathname.split("/").pop();
async function look() {
  try {
    const { state } = await (await fetch(`/_sandbox/lab/${token}`)).json();
    document.querySelector("#state").textContent = state;
    if (state === "Off") return void window.opener?.postMessage("labDone", "*");
  } catch {}
  setTimeout(look, 500);
}
look();
"""

#: What these pages load, by name: the content and its media type.
FILES = {
    "lab.css": (_STYLE, "text/css; charset=utf-8"),
    "lab.js": (_SCRIPT, "text/javascript; charset=utf-8"),
}
