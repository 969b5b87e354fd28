// @ts-check
// The page's language for what our nodes say: locales/<language>/main.json, in English where that has no sentence.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { say } from "./report_text.js";

/** @typedef {import("./report_text.js").Language} Language */

/** @type {[Language, Language]} */
let languages = [{ sentences: {} }, { sentences: {} }];

/** @type {Promise<void> | undefined} */
let loading;

/** Resolves once there are words. For `beforeRegisterNodeDef` and later: before it the page has no settings. */
export function load() {
  loading ??= (async () => {
    const all = await (await api.fetchApi("/i18n")).json();
    const locale = /** @type {string} */ (app.extensionManager.setting.get("Comfy.Locale"));
    const language = (/** @type {any} */ found) => ({
      sentences: found?.semanticSteering ?? {},
      nodeDefs: found?.nodeDefs,
    });
    languages = [language(all[locale]), language(all.en)];
  })();
  return loading;
}

/** @param {import("./report_text.js").Text} text */
export function words(text) {
  return say(text, ...languages);
}

/**
 * @param {string} node its type
 * @param {string} input
 * @returns {{placeholder?: string, choices?: Record<string, string>}} the texts of an input, as far as there are any
 */
export function textsOf(node, input) {
  return languages[0].nodeDefs?.[node]?.inputs?.[input] ?? {};
}
