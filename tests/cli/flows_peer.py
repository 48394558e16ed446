"""The other end of the connections of test_flows.py; runs in a network namespace of its own.

Prints one line with its TCP and its UDP port. TCP: reads to the end, of which the first four bytes say
how many bytes to send back (none when there are no four), and closes. UDP: every datagram goes back as it is.
"""
import selectors
import socket
import struct
import threading


def answer(connection):
    with connection:
        received = b""
        while chunk := connection.recv(65536):
            received += chunk
        if len(received) < 4:
            return
        connection.sendall(bytes(struct.unpack("!I", received[:4])[0]))


def main():
    tcp = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    for end in (tcp, udp):
        end.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        end.bind(("::", 0))
    tcp.listen(64)
    print(tcp.getsockname()[1], udp.getsockname()[1], flush=True)
    ready = selectors.DefaultSelector()
    ready.register(tcp, selectors.EVENT_READ)
    ready.register(udp, selectors.EVENT_READ)
    while True:
        for key, _ in ready.select():
            if key.fileobj is tcp:
                threading.Thread(target=answer, args=(tcp.accept()[0],), daemon=True).start()
            else:
                data, sender = udp.recvfrom(65536)
                udp.sendto(data, sender)


if __name__ == "__main__":
    main()
