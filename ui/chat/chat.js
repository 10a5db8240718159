() => {
  const find = (selector) => document.querySelector(selector);
  const isNarrow = () => window.matchMedia("(max-width: 700px)").matches;
  const fold = (selector) => {
    const side = find(selector);
    if (side?.classList.contains("open")) side.querySelector(".toggle-button")?.click();
  };
  const press = (selector) => {
    const button = find(selector);
    if (!button || button.disabled || button.offsetParent === null) return false;
    button.click();
    return true;
  };

  let shown = null;
  window.nemotron = {
    // the address names the conversation, so that a reload shows it again
    remember(chat) {
      const address = new URL(location.href);
      if (chat) address.searchParams.set("chat", chat);
      else address.searchParams.delete("chat");
      history.replaceState(null, "", address);
      if (chat !== shown && isNarrow()) fold("#side");
      if (chat !== shown) window.nemotron.toEnd();
      shown = chat;
    },
    save(file) {
      if (!file) return;
      const { name, text } = JSON.parse(file);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([text]));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 60000);
    },
    editButton(row) {
      // Gradio puts a message's buttons behind its row
      const buttons = row.nextElementSibling?.querySelectorAll("button") ?? [];
      return [...buttons].pop();
    },
    switchLanguage() {
      const other = document.documentElement.lang.startsWith("zh") ? "en" : "zh";
      document.cookie = `nemotron_language=${other}; path=/; max-age=31536000; samesite=strict`;
      location.reload();
    },
  };
  document.documentElement.lang = navigator.language.toLowerCase().startsWith("zh") ? "zh-CN" : "en";

  document.addEventListener("keydown", (event) => {
    const box = find("#message textarea");
    if (event.isComposing) return;
    if (event.key === "Escape" && press("#stop")) event.preventDefault();
    if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") {
      event.preventDefault();
      find("#new")?.click();
      box?.focus();
    }
    if (event.key === "ArrowUp" && event.target === box && !box.value) {
      const asked = [...document.querySelectorAll("#history .user-row")].pop();
      const edit = asked && window.nemotron.editButton(asked);
      if (edit) {
        event.preventDefault();
        edit.click();
      }
    }
  });

  // who reads the end sees it grow; who has scrolled up stays there
  const talk = find("#talk");
  let atEnd = true;
  let before = { top: 0, height: 0 };
  talk.addEventListener("scroll", () => {
    const { scrollTop: top, scrollHeight: height } = talk;
    if (height === before.height && top < before.top - 2) atEnd = false;
    if (height - top - talk.clientHeight < 40) atEnd = true;
    before = { top, height };
  });
  const toEnd = () => {
    if (!atEnd) return;
    talk.scrollTop = talk.scrollHeight;
    requestAnimationFrame(() => {
      if (atEnd) talk.scrollTop = talk.scrollHeight;
    });
  };
  window.nemotron.toEnd = () => {
    atEnd = true;
    toEnd();
  };
  new ResizeObserver(toEnd).observe(find("#live"));
  new ResizeObserver(toEnd).observe(find("#history"));
}
