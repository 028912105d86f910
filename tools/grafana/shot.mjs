// Takes the picture: node shot.mjs ADDRESS FILE CHROMIUM. Fails where a panel has no series, or anything went wrong.
import { chromium } from 'playwright-core';

const [address, file, executablePath] = process.argv.slice(2);
const errors = [];
const browser = await chromium.launch({
  executablePath,
  args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
});
const page = await browser.newPage({ viewport: { width: 1440, height: 900 }, deviceScaleFactor: 1 });
page.on('pageerror', error => errors.push(String(error)));
await page.goto(address);
await page.waitForFunction(
  () =>
    document.querySelectorAll('[data-panel]:not([data-drawn])').length === 0 &&
    document.querySelectorAll('[data-drawn]').length > 0,
  null,
  { timeout: 60_000 },
);
await page.waitForTimeout(1500); // fonts and canvases settle
for (const panel of await page.$$eval('[data-panel]', found => found.map(each => ({ ...each.dataset })))) {
  if (panel.error) errors.push(`${panel.panel}: ${panel.error}`);
  else if (panel.series === '0') errors.push(`${panel.panel}: no series`);
}
const height = await page.evaluate(() => document.documentElement.scrollHeight);
await page.setViewportSize({ width: 1440, height });
await page.waitForTimeout(500);
await page.screenshot({ path: file });
await browser.close();
console.log(errors.join('\n') || `wrote ${file}`);
process.exit(errors.length ? 1 : 0);
