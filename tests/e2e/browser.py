"""Headless Chromium, and what it had to say about a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service


class Browser:
    """A browser with one page open."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def open(self, page: Path, *, width: int = 1100, dark: bool = False, printed: bool = False) -> None:
        """Opens a file in a window of a width in CSS pixels."""
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"media": "print" if printed else "", "features": [scheme]}
        self._driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self._driver.get(page.as_uri())

    def says(self, script: str) -> Any:
        """What an expression is on the page."""
        return self._driver.execute_script(f"return {script}")

    def violations(self, *ignored: str) -> list[str]:
        """What axe-core objects to on the page: the rule and the element, for each that is not ignored."""
        self._driver.execute_script(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
        rules = {rule: {"enabled": False} for rule in ignored}
        script = "axe.run(document, {rules: arguments[0], resultTypes: ['violations']}).then(arguments[1])"
        result = self._driver.execute_async_script(script, rules)
        assert result["passes"], "axe-core has looked at nothing"
        return [
            f"{violation['id']}: {node['html'][:200]} {node['failureSummary']}"
            for violation in result["violations"]
            for node in violation["nodes"]
        ]

    def press(self, keys: str) -> None:
        """Types where the focus is."""
        self._driver.switch_to.active_element.send_keys(keys)

    def console(self) -> list[str]:
        """Every message, of whatever level."""
        return [entry["message"] for entry in self._driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Every address that was asked for."""
        told = [json.loads(entry["message"])["message"] for entry in self._driver.get_log("performance")]
        return [m["params"]["request"]["url"] for m in told if m["method"] == "Network.requestWillBeSent"]


@contextmanager
def browser() -> Iterator[Browser]:
    """A browser, closed at the end."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        pytest.skip("chromium and its chromedriver are not installed")
    options = Options()
    options.binary_location = program
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options=options, service=Service(driver))
    chrome.set_page_load_timeout(60)
    chrome.set_script_timeout(30)
    try:
        yield Browser(chrome)
    finally:
        chrome.quit()
