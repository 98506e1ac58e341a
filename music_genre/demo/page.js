// What the page does in the browser. REFUSALS, headlines as HTML by reason, is defined before this.

const CHUNK_SECONDS = 1, KEPT_SECONDS = 10, LISTEN_SECONDS = 180;
// Browsers clean up speech by default, and take music for noise.
const RAW = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
const TAP = `registerProcessor('tap', class extends AudioWorkletProcessor {
  process([[samples]]) { if (samples) this.port.postMessage(samples.slice()); return true; }
})`;

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

  // On a phone the result may be below what fits the screen.
  showResult() {
    const head = document.querySelector('.genre-head');
    if (head.getBoundingClientRect().bottom > innerHeight)
      head.scrollIntoView({block: 'center', behavior: 'smooth'});
  },

  refusal: '', // why there is no microphone
  stopListening() {},
  answered() {},

  // The button of Listen. Sends the newest sound once a second, or when the last answer is there.
  listener(element, props, trigger) {
    const button = element.querySelector('button');
    let microphone = null, isOpening = false, isWanted = false;

    async function start() {
      isWanted = true;
      if (isOpening) return;
      isOpening = true;
      genrePage.stopListening = () => { isWanted = false; }; // the browser asks the visitor
      try {
        microphone = await openMicrophone();
      } catch (error) {
        const reasons = {NotAllowedError: 'refused', NotFoundError: 'none', NoHttpsError: 'http'};
        genrePage.refusal = REFUSALS[reasons[error.name] ?? 'broken'];
        trigger('refused');
        return;
      } finally {
        isOpening = false;
        genrePage.stopListening = () => {};
      }
      if (!isWanted) {
        microphone.close();
        microphone = null;
        return;
      }
      button.textContent = 'Stop';
      button.classList.add('is-on');
      trigger('start_recording');
      let isFirst = true, isWaiting = false;
      genrePage.answered = () => { isWaiting = false; };
      const send = setInterval(() => {
        if (isWaiting || microphone.seconds() < CHUNK_SECONDS / 2) return;
        isWaiting = true;
        props.value = {...microphone.take(), is_first: isFirst};
        isFirst = false;
        trigger('input');
      }, 1000 * CHUNK_SECONDS);
      const end = setTimeout(stop, 1000 * LISTEN_SECONDS);
      genrePage.stopListening = stop;
      microphone.track.addEventListener('ended', stop); // unplugged
      if (microphone.track.readyState === 'ended') stop();

      function stop() {
        clearInterval(send);
        clearTimeout(end);
        genrePage.stopListening = () => {};
        microphone.close();
        microphone = null;
        button.textContent = 'Listen';
        button.classList.remove('is-on');
        trigger('stop_recording');
      }
    }

    button.addEventListener('click', () => (microphone ? genrePage.stopListening() : start()));
  },
};

async function openMicrophone() {
  if (!navigator.mediaDevices) // of a page that has neither https nor the name localhost
    throw Object.assign(Error('no https'), {name: 'NoHttpsError'});
  const stream = await navigator.mediaDevices.getUserMedia({audio: RAW});
  let context = null;
  const close = () => {
    stream.getTracks().forEach((track) => track.stop());
    context?.close();
  };
  try {
    context = new AudioContext();
    return {...await record(stream, context), close, track: stream.getTracks()[0]};
  } catch (error) {
    close();
    throw error;
  }
}

async function record(stream, context) {
  const rate = context.sampleRate;
  await context.audioWorklet.addModule(
    URL.createObjectURL(new Blob([TAP], {type: 'text/javascript'})));
  const tap = new AudioWorkletNode(context, 'tap', {channelCount: 1, channelCountMode: 'explicit'});
  let parts = [], length = 0;
  tap.port.onmessage = ({data}) => {
    parts.push(data);
    length += data.length;
    while (length > KEPT_SECONDS * rate) length -= parts.shift().length;
  };
  context.createMediaStreamSource(stream).connect(tap).connect(context.destination); // it is silent
  return {
    seconds: () => length / rate,
    take() {
      const pcm = new Int16Array(length);
      let at = 0;
      for (const part of parts) for (const sample of part)
        pcm[at++] = Math.max(-32768, Math.min(32767, Math.round(32768 * sample)));
      parts = [];
      length = 0;
      return {sampling_rate: rate, pcm: toBase64(new Uint8Array(pcm.buffer))};
    },
  };
}

function toBase64(bytes) {
  let text = '';
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}
