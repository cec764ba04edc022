// Copies a text, submits a search when a choice changes, looks again at what goes on, and asks the browser for a passkey.
// Every page works without it, but for passkeys.
for (const button of document.querySelectorAll("button[data-copy]")) {
  button.hidden = false;
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
    button.textContent = "Copied";
  });
}
for (const field of document.querySelectorAll("select[data-submit]")) {
  field.addEventListener("change", () => field.form.requestSubmit());
}
for (const live of document.querySelectorAll("[data-live]")) {
  const look = async () => {
    const answer = await fetch(location.href).catch(() => undefined);
    if (answer?.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById(live.id);
      if (answer.redirected || !next || !next.hasAttribute("data-live")) return location.reload(); // signed out, or ended
      live.replaceChildren(...next.childNodes);
    }
    setTimeout(look, 1500);
  };
  setTimeout(look, 1500);
}

// A form with data-passkey is sent with a passkey that the browser makes or signs with, by the options of the server.
for (const form of document.querySelectorAll("form[data-passkey]")) {
  const kind = window.PublicKeyCredential;
  if (!kind?.parseRequestOptionsFromJSON || !navigator.credentials) continue;
  const field = form.elements.passkey, told = form.querySelector("[role=alert]");
  field.value = ""; // of before, when the page is shown again
  form.hidden = false;
  form.addEventListener("submit", async (event) => {
    if (field.value) return;
    event.preventDefault();
    told.hidden = true;
    try {
      const answer = await fetch(form.dataset.options, { method: "POST", body: new URLSearchParams() });
      const { public_key: options, problem } = await answer.json();
      if (!options) throw new Error(problem);
      const made = form.dataset.passkey === "create"
        ? await navigator.credentials.create({ publicKey: kind.parseCreationOptionsFromJSON(options) })
        : await navigator.credentials.get({ publicKey: kind.parseRequestOptionsFromJSON(options) });
      field.value = JSON.stringify(made);
      form.requestSubmit();
    } catch (failure) {
      told.textContent = failure.message || "The browser gave no passkey.";
      told.hidden = false;
    }
  });
}
