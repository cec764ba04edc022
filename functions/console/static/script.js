// Copies a text, submits a search when a choice changes, follows what goes on, and asks the browser for a passkey. Every
// page works without it, but for passkeys.
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
  if (live.dataset.live) follow(live);
  else look(live);
}

// replace puts other nodes into an element. The link that had the focus has it again.
function replace(live, nodes) {
  const focused = live.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  live.replaceChildren(...nodes);
  if (focused) [...live.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus();
}

// follow shows what the server sends. Where answers are not streamed, it looks again and again.
function follow(live) {
  let source, begun;
  const open = () => {
    source = new EventSource(live.dataset.live);
    source.addEventListener("list", (e) => {
      begun = true;
      const list = document.createElement("template");
      list.innerHTML = e.data;
      replace(live, list.content.childNodes);
    });
    source.addEventListener("end", () => location.reload()); // the session has ended, or its token has expired
    source.onerror = () => source.readyState === EventSource.CLOSED && give();
  };
  const give = () => {
    source.close();
    document.removeEventListener("visibilitychange", turn);
    look(live);
  };
  const turn = () => (document.hidden ? source.close() : open());
  open();
  document.addEventListener("visibilitychange", turn);
  setTimeout(() => begun || give(), 5000);
}

// look loads the page again every 1.5 seconds, and shows the part that may have changed.
function look(live) {
  setTimeout(async () => {
    const answer = await fetch(location.href).catch(() => undefined);
    if (answer?.ok) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const next = page.getElementById(live.id);
      if (answer.redirected || !next || !next.hasAttribute("data-live")) return location.reload(); // signed out, or ended
      replace(live, next.childNodes);
    }
    look(live);
  }, 1500);
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
