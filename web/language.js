// @ts-check
// The page's language for what our nodes say: locales/<language>/main.json, in English where that has no sentence.
import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { recordAt } from "./given.js";
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
    const language = (/** @type {string} */ name) => ({
      sentences: recordAt(all, name, "semanticSteering"),
      nodeDefs: recordAt(all, name, "nodeDefs"),
    });
    languages = [language(locale), language("en")];
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
 * @returns {Record<string, unknown>} `placeholder` and `choices` of an input, as far as there are any
 */
export function textsOf(node, input) {
  return recordAt(languages[0].nodeDefs, node, "inputs", input);
}
