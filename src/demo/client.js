// ask() resolves to a new connect URL; dial(url, on) opens a socket; onMessage(data) gets what is pushed;
// onState(state, reason) gets "connecting", "open", "waiting" or "closed".
function talk({ ask, dial, onMessage, onState }) {
  let turn = 0, failures = 0, openedAt = 0, isOver = false, socket, timer

  async function connect() {
    leave()
    const own = turn
    const on = {
      open() {
        if (own !== turn) return
        openedAt = Date.now()
        onState('open')
      },
      message(data) {
        if (own === turn) onMessage(data)
      },
      close(code, reason) {
        if (own === turn) ended(code, reason)
      },
    }
    onState('connecting')
    try {
      const url = await ask()
      if (own === turn) socket = dial(url, on)
    } catch (error) {
      on.close(1006, String(error))
    }
  }

  function leave() {
    turn += 1
    clearTimeout(timer)
    if (socket) socket.close()
    socket = undefined
    openedAt = 0
  }

  function ended(code, reason) {
    const wasStable = openedAt > 0 && Date.now() - openedAt > 60000
    socket = undefined
    openedAt = 0
    if (code === 1000) return finish(reason)   // your business server closed it
    failures = wasStable ? 0 : failures + 1
    const longest = Math.min(30000, 500 * 2 ** failures)
    timer = setTimeout(connect, longest * (0.5 + Math.random() / 2))
    onState('waiting', reason)
  }

  function finish(reason) {
    isOver = true
    onState('closed', reason)
  }

  connect()
  return {
    send(data) {
      if (openedAt > 0) socket.send(data)
      return openedAt > 0
    },
    reconnect() {
      if (!isOver) connect()
    },
    stop() {
      leave()
      finish('')
    },
  }
}

const browser = (url, on) => {
  const socket = new WebSocket(url)
  socket.onopen = on.open
  socket.onmessage = event => on.message(event.data)
  socket.onclose = event => on.close(event.code, event.reason)
  return { send: data => socket.send(data), close: () => socket.close(1000) }
}
