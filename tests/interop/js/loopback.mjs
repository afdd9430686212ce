// Preload with `node --import ./loopback.mjs …`: TCP and UDP sockets bind to and reach the loopback interface only, and
// names are not resolved. The libraries would listen on all interfaces otherwise.
import dgram from 'node:dgram'
import dns from 'node:dns'
import net from 'node:net'

const LOOPBACK = '127.0.0.1'

const listen = net.Server.prototype.listen
net.Server.prototype.listen = function (first, ...rest) {
  // devp2p writes a frame's header and body separately: without this, Nagle's algorithm and delayed
  // acknowledgements cost some 40 ms per answer.
  this.noDelay = true
  if (typeof first === 'object') return listen.call(this, { ...first, host: LOOPBACK }, ...rest)
  return listen.call(this, { port: Number(first), host: LOOPBACK }, ...rest.filter((x) => typeof x === 'function'))
}

const connect = net.Socket.prototype.connect
net.Socket.prototype.connect = function (...args) {
  const target = Array.isArray(args[0]) ? args[0][0] : args[0]
  const host = typeof target === 'object' ? target?.host : args[1]
  if (host !== LOOPBACK) {
    process.nextTick(() => this.destroy(new Error(`loopback only: refused ${host}`)))
    return this
  }
  return connect.apply(this, args)
}

const bind = dgram.Socket.prototype.bind
dgram.Socket.prototype.bind = function (port, ...rest) {
  return bind.call(this, port, LOOPBACK, ...rest.filter((x) => typeof x === 'function'))
}

const send = dgram.Socket.prototype.send
dgram.Socket.prototype.send = function (...args) {
  const host = args.slice(1).find((x) => typeof x === 'string')
  if (host === LOOPBACK) send.apply(this, args)
}

const refused = () => new Error('loopback only: names are not resolved')
for (const method of ['resolve', 'resolve4', 'resolve6', 'resolveTxt']) {
  dns[method] = (...args) => process.nextTick(args.at(-1), refused())
  dns.promises[method] = async () => {
    throw refused()
  }
}
