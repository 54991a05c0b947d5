"""Modbus: reads the four tables of a PLC or meter, and writes to none."""
