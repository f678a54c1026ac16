
import math
import numpy as np

D = 3
MEAN, STD = np.array([1.0, -1.0, 0.5]), np.array([0.5, 2.0, 1.0])
log_integral = 2.756815599614018

def log_density(x):
    return -((x - MEAN)**2/STD**2).sum(-1)/2

def gradient(x):
    x = x*1.0
    return -(x - MEAN)/STD**2
