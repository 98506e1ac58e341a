// What the page does in the browser. NO_MICROPHONE and NO_ROOM, headlines as HTML, are defined before
// this.

const genrePage = {
  // Screen readers hear a new genre once, and not the whole result each second.
  announce(element) {
    const status = document.createElement('div');
    status.className = 'sr-only';
    status.setAttribute('role', 'status');
    element.after(status);
    new MutationObserver(() => {
      const word = element.querySelector('.genre-word').textContent;
      if (word !== status.textContent) status.textContent = word;
    }).observe(element, {childList: true, subtree: true, characterData: true});
  },

  // On a phone the result is below what fits the screen.
  showResult() {
    const head = document.querySelector('.genre-head');
    if (head.getBoundingClientRect().bottom > innerHeight)
      head.scrollIntoView({block: 'center', behavior: 'smooth'});
  },

  pressStop() {
    document.querySelector('#microphone [class*=stop-button]')?.click();
  },

  // gradio starts another stream where `time_limit` ends one, so the page presses Stop itself.
  startListening(seconds) {
    clearTimeout(genrePage.timer);
    genrePage.timer = setTimeout(genrePage.pressStop, seconds * 1000);
    // Other machines' pages without https have none.
    if (!navigator.mediaDevices) genrePage.showInstead(NO_MICROPHONE);
  },

  // gradio does not tell the page when a visitor, or the browser, refuses the microphone.
  showInstead(headline) {
    setTimeout(() => {  // "listening…" is on its way and would replace it
      const head = document.querySelector('#live .genre-head');
      if (isVisible(head)) head.outerHTML = headline;
    }, 1000);
  },
};

// Browsers clean up speech by default and take music for noise. gradio has no option for that.
if (navigator.mediaDevices) {
  const media = navigator.mediaDevices, ask = media.getUserMedia.bind(media);
  const raw = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
  media.getUserMedia = async (wish) => {
    const stream = ask({...wish, audio: {...wish?.audio, ...raw}});
    stream.catch(() => genrePage.showInstead(NO_MICROPHONE));
    if (isVisible(document.querySelector('#microphone'))) await recorderIsLoaded();
    return stream;
  };
}

function isVisible(element) {
  return Boolean(element?.getClientRects().length);
}

// gradio 6.31 fails without a word if it gets the microphone before its recorder for live sound,
// which it loads when Listen is opened. It is there when it can write WAV.
async function recorderIsLoaded() {
  const end = performance.now() + 10000;
  while (performance.now() < end) {
    const loaded = performance.getEntriesByType('resource').map((entry) => entry.name);
    for (const module of loaded.filter((name) => name.includes('/assets/module-'))) {
      const recorder = (await import(module)).MediaRecorder;
      if (recorder?.isTypeSupported('audio/wav')) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

// gradio's Audio refuses a file whose name does not end like music, with a list of MIME types.
// The server looks at the content instead, and says in a sentence what it cannot use.
function withAudioType(files) {
  const list = new DataTransfer();
  for (const file of files)
    list.items.add(new File([file], file.name, {type: 'audio/unknown'}));
  return list;
}
addEventListener('change', (event) => {
  if (event.target.matches?.('#song input[type=file]'))
    event.target.files = withAudioType(event.target.files).files;
}, true);
addEventListener('drop', (event) => {
  if (event.target.closest?.('#song') && event.dataTransfer?.files.length)
    Object.defineProperty(event, 'dataTransfer', {value: withAudioType(event.dataTransfer.files)});
}, true);

// gradio says nothing when the server cannot store a chunk of live sound, and "listening…" would stay.
const send = window.fetch.bind(window);
window.fetch = async (address, options) => {
  const response = await send(address, options);
  if (response.status === 400 && String(address).includes('/upload')) {
    genrePage.pressStop();
    genrePage.showInstead(NO_ROOM);
  }
  return response;
};
