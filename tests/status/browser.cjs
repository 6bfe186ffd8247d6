// Looks at the status page as an operator does, in Chromium. Run by tests/status/browser.rs, which has the endpoint and the sink do
// what CONTROL is asked for.
"use strict";

const assert = require("node:assert/strict");
const fs = require("node:fs");
const path = require("node:path");
const { chromium } = require("playwright-core");
const axe = fs.readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

const { PAGE, TOKEN, CONTROL, CONNECTOR, CHROMIUM, SCREENSHOTS } = process.env;

/** Has something happen, and returns once it has. */
async function control(what) {
  const answer = await fetch(`${CONTROL}/${what}`, { method: "POST" });
  assert.equal(answer.status, 200, what);
}

/** No violation of accessibility that axe knows. */
async function accessible(page, what) {
  const { violations } = await page.evaluate(`${axe}; axe.run()`);
  const told = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(" ")}`);
  assert.deepEqual(told, [], what);
}

/** What the page says, once it says it: it refreshes by itself. */
async function says(page, words) {
  await page.locator("main", { hasText: words }).waitFor({ timeout: 20_000 });
}

async function agrees(page, click, agreed) {
  const asked = new Promise((resolve) => page.once("dialog", async (dialog) => {
    const question = dialog.message();
    await (agreed ? dialog.accept() : dialog.dismiss());
    resolve(question);
  }));
  await click;
  return asked;
}

async function screenshots(page) {
  if (!SCREENSHOTS) return;
  const shot = async (name) => page.screenshot({ path: path.join(SCREENSHOTS, `status-${name}.png`), fullPage: true });
  await page.emulateMedia({ colorScheme: "dark" });
  await shot("dark");
  await page.emulateMedia({ colorScheme: "light" });
  await shot("light");
  await page.setViewportSize({ width: 400, height: 800 });
  await shot("narrow");
  await page.setViewportSize({ width: 1000, height: 800 });
}

async function wrongTokenIsRefused(browser) {
  const context = await browser.newContext({ httpCredentials: { username: "me", password: "wrong" } });
  const answer = await (await context.newPage()).goto(PAGE);
  assert.equal(answer.status(), 401);
  await context.close();
}

async function outageIsSeen(page) {
  await says(page, "Everything gets through.");
  await accessible(page, "the page while all is well");
  await control("away");
  await control("consume/1");
  await says(page, "Not everything gets through");
  await says(page, "Failing since");
  assert.match(await page.title(), /^Not ready/);
  await accessible(page, "the page in an outage");
  await control("back");
  await says(page, "Everything gets through.");
}

async function headIsGivenUp(page) {
  await control("stuck");
  const button = page.getByRole("button", { name: /^Give up offset/ });
  await button.waitFor({ timeout: 20_000 });
  await says(page, "503 Service Unavailable");
  await accessible(page, "the table of lanes");
  await screenshots(page);
  await page.setViewportSize({ width: 400, height: 800 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 400, `the page is ${wide} px wide where there are 400`);
  await accessible(page, "the page at 400 px");
  await page.setViewportSize({ width: 1000, height: 800 });
  await agrees(page, button.focus().then(() => page.keyboard.press("Enter")), false);
  await button.waitFor();
  const question = await agrees(page, button.click(), true);
  assert.match(question, /^Give up offset \d+ of .*It goes to the dead letters\.$/);
  await button.waitFor({ state: "detached", timeout: 20_000 });
  await control("expect-others");
}

async function deadLetterIsReplayed(page) {
  await control("refused");
  await says(page, "rejected");
  await page.getByRole("link", { name: "View them" }).click();
  await says(page, "letters match");
  await accessible(page, "the dead letters");
  await page.getByRole("link", { name: /^rejected$/ }).click();
  await page.locator("td a", { hasText: /^\d+:\d+$/ }).first().click();
  await says(page, "<img src=x onerror=");
  await says(page, "no <b>such</b> order");
  await accessible(page, "one dead letter");
  assert.equal(await page.locator("main img, main b, main script").count(), 0, "what comes from outside is text");
  await control("back");
  assert.equal(await agrees(page, page.getByRole("button", { name: "Replay" }).click(), true), "Send this letter again?");
  for (let tries = 0; !(await page.locator("main", { hasText: "The last replay ended: 1 delivered" }).count()); tries++) {
    assert.ok(tries < 100, await page.locator("main").innerText());
    await page.waitForTimeout(100);
    await page.reload();
  }
  await control("expect-replayed");
}

async function main() {
  const browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox"] });
  await wrongTokenIsRefused(browser);
  const httpCredentials = { username: "operator", password: TOKEN };
  const context = await browser.newContext({ httpCredentials, viewport: { width: 1000, height: 800 } });
  const page = await context.newPage();
  const errors = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(String(error)));
  await page.goto(PAGE);
  await outageIsSeen(page);
  await deadLetterIsReplayed(page);
  await page.goto(PAGE);
  await headIsGivenUp(page);
  await page.emulateMedia({ colorScheme: "dark" });
  await accessible(page, "the page in the dark");
  assert.equal(await page.evaluate(() => window.pwned), undefined);
  assert.deepEqual(errors, [], "the console has errors");
  await browser.close();
  console.log(`connector ${CONNECTOR}: all seen`);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
