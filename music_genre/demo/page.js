// The page's script. REFUSALS, which maps reasons to headlines in HTML, is defined before it.

const CHUNK_SECONDS = 1, KEPT_SECONDS = 10, LISTEN_SECONDS = 180;
// By default, browsers filter the sound for speech and treat music as noise.
const RAW = {echoCancellation: false, noiseSuppression: false, autoGainControl: false};
const TAP = `registerProcessor('tap', class extends AudioWorkletProcessor {
  process([[samples]]) { if (samples) this.port.postMessage(samples.slice()); return true; }
})`;

const genrePage = {
  // Screen readers announce a new genre once, instead of the whole result every second.
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

  // On a phone, the result may be below the visible part of the page.
  showResult() {
    const head = document.querySelector('.genre-head');
    if (head.getBoundingClientRect().bottom > innerHeight)
      head.scrollIntoView({block: 'center', behavior: 'smooth'});
  },

  refusal: '', // why there is no microphone
  stopListening() {},
  answered() {},

  // The Listen button. Sends the new sound every second, but waits for the previous answer.
  listener(element, props, trigger) {
    const button = element.querySelector('button');
    let microphone = null, isOpening = false, isWanted = false;

    async function start() {
      isWanted = true;
      if (isOpening) return;
      isOpening = true;
      genrePage.stopListening = () => { isWanted = false; }; // while the browser asks
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
  if (!navigator.mediaDevices) // without https, browsers offer it only on localhost
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
  context.createMediaStreamSource(stream).connect(tap).connect(context.destination); // silent
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
