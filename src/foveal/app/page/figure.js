// Parts that several sections of a network have: a figure, and buttons that save.

import * as api from "./api.js";

/** Return a figure with a caption, a canvas and room for a colour bar. */
export function figure(title) {
  const element = document.createElement("figure");
  const [caption, canvas, bar] = ["figcaption", "canvas", "div"].map((name) => document.createElement(name));
  caption.textContent = title;
  canvas.setAttribute("role", "img");
  bar.className = "bar";
  element.append(caption, canvas, bar);
  return { element, caption, canvas, bar };
}

/**
 * Offer each picture as PNG and as numbers.
 *
 * @param place element for the buttons
 * @param panel whose pictures they are
 * @param pictures {what the server calls it: what people call it}
 * @param question returns what else the server has to know
 */
export function offerDownloads(place, panel, pictures, question = () => ({})) {
  const named = Object.entries(pictures);
  const buttons = named.flatMap(([what, name]) =>
    [["png", "picture"], ["npz", "numbers"]].map(([form, kind]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.download = `${what}.${form}`;
      button.textContent = `${named.length > 1 ? `${name}, ` : ""}${kind} (${form.toUpperCase()})`;
      button.setAttribute("aria-label", `Save the ${kind} of the ${name} of ${panel.network.name} (${form.toUpperCase()})`);
      button.addEventListener("click", () => save(button, panel, { ...question(), what, form }));
      return button;
    }),
  );
  place.hidden = false;
  if (place.childElementCount !== buttons.length) place.replaceChildren(...buttons); // the focus stays where it is
}

async function save(button, panel, question) {
  button.disabled = true;
  try {
    await api.download({ network: panel.network.key, ...panel.shown, ...question }, panel.signal);
    panel.page.say("The file was saved");
  } catch (error) {
    panel.page.warn(error);
  } finally {
    button.disabled = false;
  }
}
