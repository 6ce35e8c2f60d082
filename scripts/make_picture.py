"""The picture of the HTML report that the README shows: a check of the demo's model, in headless Chromium.

python scripts/make_picture.py [DEMO]

DEMO is a folder that `bnexport demo` left behind; without it the demo is run first. Needs chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

PICTURE = Path(__file__).parent / "pictures" / "report.png"
SIZE = (1000, 1240)


def main() -> None:
    """Writes the picture."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("chromium is not installed: apt-get install chromium")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(name) / "bnexport-demo"
        command = [sys.executable, "-m", "bnexport"]
        if not folder.is_dir():
            subprocess.run([*command, "demo", folder.name, "-q"], cwd=name, check=True)
        page = Path(name) / "report.html"
        check = [*command, "check", f"{folder.name}/model.h5", f"{folder.name}/images", "--report", str(page), "-q"]
        subprocess.run(check, cwd=folder.parent.resolve(), check=False)
        shot = Path(name) / "report.png"
        options = ["--headless=new", "--no-sandbox", "--hide-scrollbars", f"--window-size={SIZE[0]},{SIZE[1]}"]
        subprocess.run([chromium, *options, f"--screenshot={shot}", page.as_uri()], check=True)
        with Image.open(shot) as image:
            PICTURE.parent.mkdir(exist_ok=True)
            image.convert("RGB").quantize(256).save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
