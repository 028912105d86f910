// What the sockets have in common; wire.md, section 1. The binding refuses options of the other direction.

const CONNECTED = {
  linger: 0,
  reconnectInterval: 50,
  reconnectMaxInterval: 500,
  connectTimeout: 2000,
  tcpMaxRetransmitTimeout: 5000,
  tcpKeepalive: 1,
  tcpKeepaliveIdle: 1,
  tcpKeepaliveInterval: 1,
  tcpKeepaliveCount: 5,
};
const SENDING = { immediate: true, sendTimeout: 0, sendBufferSize: 65536 }; // no connection: EAGAIN at once
const RECEIVING = { receiveBufferSize: 65536, maxMessageSize: 2 ** 30 };

export const PUSH = { ...CONNECTED, ...SENDING, conflate: true };
export const PULL = { ...CONNECTED, ...RECEIVING };
export const DEALER = { ...CONNECTED, ...SENDING, ...RECEIVING };
