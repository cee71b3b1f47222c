(() => {
  const form = document.getElementById("filters");
  const holder = document.getElementById("shots");
  const count = document.getElementById("count");
  const copy = document.getElementById("copy");
  const choose = document.getElementById("choose");
  const shots = [...holder.children].map((card, place) => ({
    card, place,
    box: card.querySelector("input"),
    text: `${card.dataset.id} ${card.querySelector(".answer").textContent}`.toLowerCase(),
    modalities: card.dataset.modality.split(" "),
    cost: card.dataset.cost === "" ? NaN : Number(card.dataset.cost),
  }));
  const MOST_LETTERS = 100_000; // a shell takes an argument of 128 KiB

  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  for (const shot of shots) shot.box.hidden = false;

  const chosen = () => shots.filter((shot) => shot.box.checked);

  const tell = () => {
    const left = shots.filter((shot) => !shot.card.hidden).length;
    const some = chosen().length;
    count.textContent = `${left.toLocaleString("en")} of ${shots.length.toLocaleString("en")} shown` + (some ? `, ${some.toLocaleString("en")} selected` : "");
    copy.disabled = !some;
    document.getElementById("none").hidden = left > 0 || !shots.length;
  };

  const filter = () => {
    const wanted = Object.fromEntries(new FormData(form));
    const words = wanted.text.toLowerCase().split(/\s+/);
    const [low, high] = [wanted.low, wanted.high].map((text) => Number(text.replace(",", ".")));
    for (const shot of shots) {
      const { status, error } = shot.card.dataset;
      shot.card.hidden = !(
        (!wanted.outcome || wanted.outcome === status || wanted.outcome === error) &&
        (!wanted.modality || shot.modalities.includes(wanted.modality)) &&
        (!wanted.low || !(low >= 0) || shot.cost >= low) &&
        (!wanted.high || !(high >= 0) || shot.cost <= high) &&
        words.every((word) => shot.text.includes(word))
      );
    }
    tell();
  };

  const arrange = () => {
    const by = form.elements.order.value;
    const value = (shot) => Number(shot.card.dataset[by] || -1);
    const sorted = by ? [...shots].sort((a, b) => value(b) - value(a) || a.place - b.place) : shots;
    holder.append(...sorted.map((shot) => shot.card));
  };

  let soon;
  form.addEventListener("input", (event) => {
    if (event.target.name === "order") return arrange();
    clearTimeout(soon);
    soon = setTimeout(filter, 80);
  });

  holder.addEventListener("change", (event) => {
    event.target.closest(".shot").classList.toggle("chosen", event.target.checked);
    tell();
  });

  choose.addEventListener("click", () => {
    const shown = shots.filter((shot) => !shot.card.hidden);
    const isOn = !shown.every((shot) => shot.box.checked);
    for (const shot of shown) {
      shot.box.checked = isOn;
      shot.card.classList.toggle("chosen", isOn);
    }
    tell();
  });

  // As a shell takes it for one word, whatever stands in it: control characters would be keys to a terminal.
  const quoted = (text) => {
    if (/^[\w@%+=:,./-]+$/.test(text)) return text;
    if (!/[\x00-\x1f\x7f-\x9f]/.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
    const bytes = [...new TextEncoder().encode(text)];
    return `$'${bytes.map((byte) => (byte < 32 || byte > 126 || byte === 39 || byte === 92 ? "\\x" + byte.toString(16).padStart(2, "0") : String.fromCharCode(byte))).join("")}'`;
  };

  const command = (some) => {
    const ids = some.map((shot) => shot.card.dataset.id.replace(/[,*\\]/g, "\\$&"));
    const status = some.some((shot) => shot.card.dataset.status === "ok") ? " --where status=ok,failed" : "";
    return `mediabatch reprocess --where ${quoted("id=" + ids.join(","))}${status}${copy.dataset.words}`;
  };

  copy.addEventListener("click", () => {
    const lines = [];
    let [some, letters] = [[], 0];
    for (const shot of chosen()) {
      letters += 2 * shot.card.dataset.id.length;
      if (letters > MOST_LETTERS) {
        lines.push(command(some));
        [some, letters] = [[], 0];
      }
      some.push(shot);
    }
    window.copyText([...lines, command(some)].join("\n"), copy);
  });

  // What does not load says so; the address without its signature may be refused by its host.
  const miss = (element) => {
    if (element.dataset.missed) return;
    element.dataset.missed = "1";
    const told = document.createElement("div");
    told.className = "gone";
    told.textContent = element.src.startsWith("data:") ? "This browser cannot show it." : "It does not load here: it may have been signed, and the store keeps no signatures.";
    element.replaceWith(told);
  };
  document.addEventListener("error", (event) => {
    if (event.target instanceof HTMLImageElement || event.target instanceof HTMLMediaElement) miss(event.target);
  }, true);
  for (const image of document.images) if (image.complete && image.currentSrc && !image.naturalWidth) miss(image);

  // A still of each video, when it comes near the screen.
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (entry.isIntersecting) {
        entry.target.preload = "metadata";
        near.unobserve(entry.target);
      }
    }
  }, { rootMargin: "300px" });
  for (const video of document.querySelectorAll("video")) near.observe(video);

  tell();
})();
